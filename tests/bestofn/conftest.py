"""A policy, and prompts for it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.conftest import tiny_backbone_config, tiny_tokenizer

CHAT = [
    [{"role": "user", "content": "Name a river."}],
    [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why do cats purr at night, and when?"}],
    [{"role": "user", "content": "Hi"}],
]
TEXTS = ["Once upon a time", "The sea is", "A"]


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.05)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()
