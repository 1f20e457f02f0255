"""What `urm evaluate` leaves behind: results.json, report.html, and a table in the terminal."""

from pathlib import Path

from urm_hf.data.outputs import json_bytes, write_whole
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.page import write_report
from urm_hf.report.terminal import print_table


def write_results(results: EvaluationResults, folder: Path):
    """Writes both files into the folder, and prints the table and where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    write_whole(path, json_bytes(results.to_json(), indent=1))
    print_table(results)
    report = write_report(results, folder / "report.html")
    print(f"\nWrote {path} and {report}")
