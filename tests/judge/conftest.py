"""A judge on loopback, and pairs for it."""

from pathlib import Path

import pytest

from tests.helpers.judge_runs import ROWS, write
from tests.helpers.judge_server import judge_of_a_test


@pytest.fixture
def judge(monkeypatch):
    with judge_of_a_test(monkeypatch) as fake:
        yield fake


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "pairs.jsonl", ROWS)
