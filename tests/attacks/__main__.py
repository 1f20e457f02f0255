"""
All attacks, slow ones too, and a table of what was attacked, how often, and how often it did not hold.

    python -m tests.attacks                 # some minutes on two cores
    URM_KILLS=100 python -m tests.attacks   # up to so many kills of each writer

Ends with 1 if anything did not hold, or was left out.
"""

import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from pathlib import Path
from xml.etree import ElementTree

FOLDER = Path(__file__).parent


def run_tests(report: Path, arguments: list[str]):
    command = [sys.executable, "-m", "pytest", "-q", str(FOLDER), f"--junit-xml={report}", *arguments]
    subprocess.run(command, cwd=FOLDER.parents[1], check=False)


def count_outcomes(report: Path) -> dict[str, Counter]:
    """For each file of attacks: cases, those that failed or were skipped, kills and the operations to kill before."""
    counts: dict[str, Counter] = defaultdict(Counter)
    for case in ElementTree.parse(report).iter("testcase"):
        of_file = counts[case.get("classname", "").rpartition(".")[2]]
        of_file["cases"] += 1
        of_file["failed"] += any(case.find(outcome) is not None for outcome in ("failure", "error"))
        of_file["skipped"] += case.find("skipped") is not None
        for found in case.iter("property"):
            of_file[found.get("name")] += int(found.get("value", 0))
    return counts


def read_promise(name: str) -> str:
    """The first sentence of a file's docstring."""
    text = (FOLDER / f"{name}.py").read_text(encoding="utf-8").split('"""')[1]
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def format_table(counts: dict[str, Counter]) -> str:
    lines = ["| attack | cases | kills | did not hold | left out |", "|---|---|---|---|---|"]
    for name, of_file in sorted(counts.items()):
        kills = f"{of_file['kills']} at {of_file['operations']} operations" if of_file["kills"] else ""
        cells = [f"{read_promise(name)} (`{name}.py`)", of_file["cases"], kills, of_file["failed"], of_file["skipped"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    total = sum(counts.values(), Counter())
    lines.append(f"| all | {total['cases']} | {total['kills'] or ''} | {total['failed']} | {total['skipped']} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        run_tests(report, arguments)
        counts = count_outcomes(report)
    print(f"\n{format_table(counts)}")
    return int(not counts or any(each["failed"] or each["skipped"] for each in counts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
