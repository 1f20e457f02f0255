"""Pairs for `urm judge`, the command with short pauses, and what it wrote."""

import json
from pathlib import Path

from urm_hf.cli import main

LONG, SHORT = "a longer answer", "short"
ROWS = [
    {"id": n, "prompt": f"Question {n}?", "chosen": LONG if n % 3 else SHORT, "rejected": SHORT if n % 3 else LONG}
    for n in range(9)
]


def write(path: Path, rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run(fake, data, *argv, out: str = "judged.jsonl") -> int:
    quick = ["--backoff", "0.001", "--max-wait", "0.01", "--bootstrap-samples", "50"]
    argv = ["m", "--base-url", fake.url, "--data", data, "--out", data.parent / out, *quick, *argv]
    return main(["judge", *map(str, argv)])


def judged(data: Path, out: str = "judged.jsonl") -> tuple[list[dict], dict]:
    return read(data.parent / out), json.loads((data.parent / out).with_suffix(".summary.json").read_text())


def error_of(capsys) -> str:
    return capsys.readouterr().err.splitlines()[-1]
