"""
The campaign: everything that attacks a promise of docs/reliability.md, slow tests too, and one table of what was
promised, how often it was tried, and how often it did not hold.

    python -m tests.attacks                 # some minutes on two cores
    URM_KILLS=100 python -m tests.attacks   # up to so many kills of each writer

Further arguments go to pytest. Ends with 1 if anything did not hold, or was left out.
"""

import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from tests.helpers.campaign import ROOT, TESTS, read_promise

Outcome = tuple[str, int, bool, bool]


def run_tests(report: Path, arguments: list[str]):
    command = [sys.executable, "-m", "pytest", "-q", *TESTS, f"--junit-xml={report}", *arguments]
    subprocess.run(command, cwd=ROOT, check=False)


def read_outcomes(report: Path) -> Iterator[Outcome]:
    """
    Of each test: the promise that it tries, how often, whether it failed, and whether it was skipped.

    A test tells more than one trial, or a promise that is not its file's, with `record_property`.
    """
    for case in ElementTree.parse(report).iter("testcase"):
        properties = {found.get("name"): found.get("value", "") for found in case.iter("property")}
        promise = properties.get("promise") or read_promise(case.get("classname", ""))
        failed = any(case.find(outcome) is not None for outcome in ("failure", "error"))
        yield promise, int(properties.get("trials", 1)), failed, case.find("skipped") is not None


def count_outcomes(outcomes: Iterator[Outcome]) -> dict[str, Counter]:
    counts: dict[str, Counter] = defaultdict(Counter)
    for promise, trials, failed, skipped in outcomes:
        counts[promise].update(trials=trials, failures=int(failed), skipped=int(skipped))
    return counts


def format_table(counts: dict[str, Counter]) -> str:
    total = sum(counts.values(), Counter())
    lines = ["| what is promised | trials | failures |", "|---|---|---|"]
    for promise, count in [*sorted(counts.items()), ("all", total)]:
        left_out = f" ({count['skipped']} left out)" if count["skipped"] else ""
        lines.append(f"| {promise} | {count['trials']:,}{left_out} | {count['failures']} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        run_tests(report, arguments)
        counts = count_outcomes(read_outcomes(report))
    print(f"\n{format_table(counts)}")
    return int(not counts or any(count["failures"] or count["skipped"] for count in counts.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
