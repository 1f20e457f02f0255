"""Small data to evaluate on, and `urm evaluate` on it."""

import json

import numpy as np

from urm_hf.cli import main

WORDS = ["red", "green", "blue", "grey", "pink", "white", "black", "brown", "plum", "gold"]


def pairs(count: int = 24) -> list[dict]:
    return [
        {
            "prompt": [{"role": "user", "content": f"Name colour {number // 2}."}],  # two pairs of each prompt
            "chosen": f"{WORDS[number % 10]} and {WORDS[number % 7]}",
            "rejected": f"{WORDS[number % 9]}" + "." * (number % 3),
            "subset": "even" if number % 4 < 2 else "odd",
        }
        for number in range(count)
    ]


def ratings(count: int = 12) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {
            "prompt": [{"role": "user", "content": f"Say {number}"}],
            "response": WORDS[number % 10] * (1 + number % 3),
            "ratings": {name: rng.integers(0, 5, 3).tolist() for name in ("helpfulness", "clarity")},
            "scale": {name: [0, 4] for name in ("helpfulness", "clarity")},
        }
        for number in range(count)
    ]


def write(path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def run(tmp_path, *arguments) -> dict:
    assert main(["evaluate", *arguments, "--out", str(tmp_path / "out"), "--bootstrap-samples", "50"]) == 0
    return json.loads((tmp_path / "out" / "results.json").read_text())


def value(results: dict, model: str, metric: str, **where) -> float:
    where = {"level": None, "group": None, "variant": None} | where
    found = [
        entry
        for entry in results["metrics"]
        if (entry["model"], entry["metric"]) == (model, metric) and all(entry[k] == v for k, v in where.items())
    ]
    assert len(found) == 1, (model, metric, where)
    return found[0]["value"]
