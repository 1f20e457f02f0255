"""Files, models and a cache for commands."""

import json
from pathlib import Path

import datasets
import pytest

from urm_hf.cli import main

ROWS = [
    {"id": 7, "prompt": "Name a river.", "response": "The Po, in Italy."},
    {"id": 3, "prompt": "Why?", "response": "Bécause."},
    {"id": 9, "prompt": "Name another river, please.", "response": "The Rhine, the Danube and many more besides."},
]


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Nothing is read from or written to the user's caches."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "urm-cache"))


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(tmp_path) -> str:
    return write(tmp_path / "rows.jsonl", ROWS)


def score(*argv: str) -> int:
    return main(["score", *map(str, argv)])
