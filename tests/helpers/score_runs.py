"""Runs of `urm score`, whole and interrupted."""

import json
from pathlib import Path

from urm_hf.cli import main
from urm_hf.data.tables import read_jsonl

ROWS = [
    {"id": number, "prompt": f"Question {number // 3}?", "response": f"Answer {number}. " * (1 + number % 4)}
    for number in range(60)
]


def write(path: Path, rows) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def score(*argv) -> int:
    return main(["score", *map(str, argv)])


def error_of(capsys) -> str:
    return next(line for line in capsys.readouterr().err.splitlines() if line.startswith("urm score: error: "))


def rewards(path: Path) -> list[float]:
    return [row["reward"] for row in read_jsonl(path)]


def interrupted(models, data, out, monkeypatch, *argv, after: int = 3):
    """A run that ends after so many parts."""
    from urm_hf.scoring.jobs.job import PartScorer

    usual = PartScorer.score_part

    def limited(self, number):
        if number == after:
            raise KeyboardInterrupt
        usual(self, number)

    with monkeypatch.context() as patched:
        patched.setattr(PartScorer, "score_part", limited)
        names = [models] if isinstance(models, str) else models
        assert score(*names, "--data", data, "--out", out, "--rows-per-part", 10, *argv) == 130
