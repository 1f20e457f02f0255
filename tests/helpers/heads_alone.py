"""Checkpoints of heads alone, on the folder of a language model."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config
from urm_hf.modeling import URMForRewardModeling
from urm_hf.modeling.base_urm import describe_base
from urm_hf.modeling.hub_place_urm import HubPlace


def save_language_model(folder: Path, family: str = "llama") -> str:
    """A causal LM in bfloat16, as most are published."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_backbone_config(family), dtype=torch.bfloat16)
    return save_with_tokenizer(model, folder)


def build_heads(base: str, seed: int = 0) -> URMForRewardModeling:
    torch.manual_seed(seed)
    model = URMForRewardModeling.from_backbone(base, attributes=["help", "depth"], dtype=torch.float32)
    model.score.value.weight.data.normal_(std=0.2)
    model.refer_to_base(describe_base(base, HubPlace()))
    return model


def save_heads(base: str, folder: Path, seed: int = 0) -> str:
    return save_with_tokenizer(build_heads(base, seed), folder)
