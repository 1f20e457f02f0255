"""Models and conversations for the scorer."""

import pytest

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer


@pytest.fixture(scope="module")
def scorer() -> RewardScorer:
    return RewardScorer(tiny_urm(), tiny_tokenizer())
