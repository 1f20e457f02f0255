"""The table of docs/reliability.md: every promise that the campaign tries has its row, and none was broken."""

import re
from pathlib import Path

from tests.helpers.campaign import ROOT, TESTS, read_promise

TABLE = re.compile(r"^\| (.+) \| ([\d,]+) \| (\d+) \|$", re.MULTILINE)


def read_table() -> dict[str, tuple[int, int]]:
    page = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text()
    return {
        promise: (int(trials.replace(",", "")), int(failures)) for promise, trials, failures in TABLE.findall(page)
    }


def test_no_promise_was_broken_and_the_trials_add_up():
    table = read_table()
    trials, failures = table.pop("all")
    assert trials == sum(count for count, _ in table.values()) and trials > 2000
    assert failures == 0 and not any(failed for _, failed in table.values())


def test_every_file_of_attacks_has_its_row():
    """By its own first sentence, or by promises that its tests name."""
    table = read_table()
    files = [file for test in TESTS for file in (sorted((ROOT / test).glob("test_*.py")) or [ROOT / test])]
    assert len(files) > 8
    for file in files:
        text = file.read_text()
        named = [promise for promise in table if promise in text or re.sub(r"`urm .*?`", "`urm {}`", promise) in text]
        module = str(file.relative_to(ROOT)).removesuffix(".py").replace("/", ".")
        assert read_promise(module) in table or named, file
