"""Models and conversations for the scorer."""

import pytest
import torch

from tests.conftest import pad_rows, save_members, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.data.conversations import encode_conversation

TEXTS = ["Short.", "A text of some length, and then some more.", "x", "Of middling length", "Short.", "Another one."]
CHAT = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Po."}]


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


@torch.no_grad()
def outputs_alone(model, conversations) -> list:
    rows = [encode_conversation(tiny_tokenizer(), conversation) for conversation in conversations]
    return [model(**pad_rows([row])) for row in rows]
