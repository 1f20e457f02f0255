"""What `urm evaluate` leaves behind: results.json, report.html, and a table in the terminal."""

import json
from pathlib import Path
from typing import Any

from urm_hf.evaluation.report import write_report
from urm_hf.evaluation.terminal_table import table_text


def write_results(results: dict[str, Any], folder: Path):
    """Writes both files into the folder, and prints the table and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    temporary.replace(path)
    report = write_report(results, folder / "report.html")
    print(f"{table_text(results)}\n\nWrote {path} and {report}")
