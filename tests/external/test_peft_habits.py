"""Adapters that PEFT's users put on classifiers: LoRA by `all-linear` or by name, and virtual tokens."""

from functools import partial

import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PromptTuningConfig,
    RoadConfig,
    TaskType,
    VeraConfig,
    get_peft_model,
)
from transformers import AutoModelForSequenceClassification

from tests.helpers.tiny import FAMILIES, pad_rows, random_rows, tiny_backbone_config, tiny_urm
from urm_hf.modeling import URMConfig

BATCH = pad_rows(random_rows([5, 12, 3]))


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_adapts_the_decoder_and_leaves_the_head(family):
    urm = tiny_urm(family)
    adapted = get_peft_model(urm, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules="all-linear"))
    names = [name for name, _ in adapted.named_modules() if name.endswith(".lora_A")]
    assert names and all(".model." in name for name in names), names
    adapted(**BATCH, labels=torch.zeros(3)).loss.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for n, p in adapted.named_parameters() if "lora_" in n)


METHODS = [LoraConfig, IA3Config, LoHaConfig, VeraConfig, partial(RoadConfig, group_size=32)]


@pytest.mark.parametrize("method", METHODS, ids=["lora", "ia3", "loha", "vera", "road"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral"])
def test_what_is_adapted_by_default_is_what_the_classifier_adapts(family, method):
    stock = AutoModelForSequenceClassification.from_config(tiny_backbone_config(family, num_labels=1))
    adapted, expected = (
        get_peft_model(model, method(task_type=TaskType.SEQ_CLS)) for model in (tiny_urm(family), stock)
    )
    found, wanted = (
        {name for name, weight in model.named_parameters() if weight.requires_grad and ".score." not in name}
        for model in (adapted, expected)
    )
    assert found == wanted and found


def test_models_on_several_backbones_are_told_apart():
    """PEFT has one table for all; what is found there is of the model that it adapts."""
    made = {family: tiny_urm(family) for family in ("llama", "gpt2")}
    for family, names in (("llama", {"q_proj", "v_proj"}), ("gpt2", {"c_attn"})):
        adapted = get_peft_model(made[family], LoraConfig(task_type=TaskType.SEQ_CLS))
        targets = {name.split(".lora_A")[0].rsplit(".")[-1] for name, _ in adapted.named_modules() if "lora_A" in name}
        assert targets == names


def test_virtual_tokens_need_no_sizes():
    urm = tiny_urm()
    adapted = get_peft_model(urm, PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=3))
    config = adapted.peft_config["default"]
    assert config.token_dim == urm.config.hidden_size
    assert config.num_layers == urm.config.num_hidden_layers


def test_sizes_in_the_written_config_are_for_others_alone():
    config = tiny_urm().config
    written = config.to_dict()
    assert written["hidden_size"] == config.backbone_config.hidden_size
    assert URMConfig.from_dict(written | {"hidden_size": 999}).hidden_size == config.backbone_config.hidden_size
