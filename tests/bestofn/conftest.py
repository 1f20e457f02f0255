"""A policy, and prompts for it."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer


@pytest.fixture(scope="module")
def policy():
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.05)).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()
