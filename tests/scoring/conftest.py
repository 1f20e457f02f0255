"""Models and conversations for the scorer."""

import pytest

from tests.helpers.tiny import save_members, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble


@pytest.fixture(scope="module")
def scorer() -> RewardScorer:
    return RewardScorer(tiny_urm(), tiny_tokenizer())


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Three members that differ in seed."""
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(3)])


@pytest.fixture(scope="module")
def ensemble(folders) -> URMEnsemble:
    return URMEnsemble.from_pretrained(folders)
