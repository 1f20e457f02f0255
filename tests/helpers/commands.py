"""Files, models and a cache for commands."""

import json
from pathlib import Path

from urm_hf.cli import main

ROWS = [
    {"id": 7, "prompt": "Name a river.", "response": "The Po, in Italy."},
    {"id": 3, "prompt": "Why?", "response": "Bécause."},
    {"id": 9, "prompt": "Name another river, please.", "response": "The Rhine, the Danube and many more besides."},
]


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def score(*argv: str) -> int:
    return main(["score", *map(str, argv)])
