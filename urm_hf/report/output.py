"""What `urm evaluate` leaves behind: results.json, report.html, and a table in the terminal."""

import json
from pathlib import Path

from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.page import write_report
from urm_hf.report.terminal import print_table
from urm_hf.scoring.jobs.parts import write_whole


def write_results(results: EvaluationResults, folder: Path):
    """Writes both files into the folder, and prints the table and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    write_whole(path, json.dumps(results.to_json(), indent=1, allow_nan=False, ensure_ascii=False).encode())
    print_table(results)
    report = write_report(results, folder / "report.html")
    print(f"\nWrote {path} and {report}")
