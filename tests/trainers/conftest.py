"""Tiny datasets and trainers of both stages."""

import pytest


@pytest.fixture(autouse=True)
def full_precision(monkeypatch):
    """transformers 4 leaves the precision of a config to all trainers after it."""
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
