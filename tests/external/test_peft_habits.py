"""Adapters that PEFT's users put on classifiers: LoRA by `all-linear` or by name, and virtual tokens."""

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, TaskType, get_peft_model

from tests.helpers.tiny import FAMILIES, pad_rows, random_rows, tiny_urm
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
