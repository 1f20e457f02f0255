"""A Hub on loopback with a language model and adapters of it."""

import json
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import randomise, tiny_backbone_config, tiny_tokenizer
from urm_hf import RewardScorer, URMForRewardModeling
from urm_hf.checkpoints.adapters import complete_adapter
from urm_hf.hub.reference import CONVERSATIONS

ADAPTERS = ["org/adapter-0", "org/adapter-1"]
FILES = {
    *("README.md", "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "config.json"),
    *("configuration_urm.py", "checks_urm.py", "tokenizer.json", "tokenizer_config.json"),
    *("urm_reference_scores.json", "urm_reference_scores.png"),
}


def save_adapter(model: URMForRewardModeling, folder: Path, seed: int) -> Path:
    """An adapter with random weights on a URM's backbone, and a random head."""
    randomise(model.score.parameters(), 0.2, seed)
    adapted = get_peft_model(model, LoraConfig(target_modules=["q_proj"], modules_to_save=["score"], r=2))
    randomise((p for name, p in adapted.named_parameters() if "lora_" in name), 0.3, seed)
    adapted.save_pretrained(folder)
    complete_adapter(folder, model.config)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def language_model(seed: int) -> AutoModelForCausalLM:
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(tiny_backbone_config())


def edit(folder: Path, **changes):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewards(model, **kwargs) -> list[float]:
    return [score.reward for score in RewardScorer(model, **kwargs).score(list(CONVERSATIONS.values()))]


def form(folder: Path):
    (folder / "README.md").write_text("# Model Card\n[More Information Needed]\n")
