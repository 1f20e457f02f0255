"""Pairs for a judge."""

from pathlib import Path

import pytest

from tests.helpers.judge_runs import ROWS, write


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "pairs.jsonl", ROWS)
