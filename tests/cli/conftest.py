"""Files, models and a cache for commands."""

import datasets
import pytest

from tests.helpers.commands import ROWS, write


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Nothing is read from or written to the user's caches."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "urm-cache"))


@pytest.fixture
def data(tmp_path) -> str:
    return write(tmp_path / "rows.jsonl", ROWS)
