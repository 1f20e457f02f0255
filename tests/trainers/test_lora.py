"""Adapters in the attribute stage: the head trains without being asked for, and comes back from disk."""

import pytest
import torch
from peft import LoraConfig, PeftModel
from safetensors.torch import load_file
from transformers import AutoModel
from trl import RewardConfig, RewardTrainer

from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.training import (
    ATTRIBUTES,
    QUIET,
    changed,
    dataset_of,
    pair_rows,
    rated_rows,
    snapshot,
    whole_batch,
)
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer

FIELDS = ["logits", "attribute_means", "attribute_stds", "reward_std"]


def lora(**kwargs) -> LoraConfig:
    return LoraConfig(**{"target_modules": ["q_proj", "v_proj"]} | kwargs)


def adapter_trainer(folder, model, peft_config: LoraConfig, **config) -> URMAttributeTrainer:
    steps = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2}
    args = URMAttributeConfig(str(folder), **QUIET | steps | config)
    rows, tokenizer = dataset_of(rated_rows()), tiny_tokenizer()
    return URMAttributeTrainer(model, args, train_dataset=rows, processing_class=tokenizer, peft_config=peft_config)


def base(folder) -> str:
    """The folder of the URM that adapters are trained on."""
    return save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), folder / "base")


def load_base(folder) -> URMForRewardModeling:
    return URMForRewardModeling.from_pretrained(folder / "base")


def head(model) -> dict[str, torch.Tensor]:
    """The trained head's parameters, by their names in a plain URM."""
    return {name: p.detach().clone() for name, p in model.score.modules_to_save["default"].named_parameters()}


@torch.no_grad()
def outputs(model, trainer) -> dict[str, torch.Tensor]:
    batch = whole_batch(trainer)
    output = model.eval()(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
    return {name: output[name] for name in FIELDS}


@pytest.mark.parametrize("asked", [None, [], ["score"], ["embed_tokens"]], ids=str)
def test_the_head_is_among_the_modules_to_save(tmp_path, asked):
    config = lora(modules_to_save=asked)
    trainer = adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), config)
    assert sorted(trainer.model.peft_config["default"].modules_to_save) == sorted({*(asked or []), "score"})
    assert config.modules_to_save == asked  # one configuration may serve several runs


def test_the_value_head_and_the_adapter_train(tmp_path):
    trainer = adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora())
    before = snapshot(trainer.model)
    trainer.train()
    keys = changed(before, trainer.model)
    adapters = [key for key in before if "lora_" in key]
    value = "base_model.model.score.modules_to_save.default.value.weight"
    assert adapters and sorted(keys) == sorted([*adapters, value])


@pytest.mark.parametrize("target_modules", [["q_proj", "v_proj"], "all-linear"], ids=str)
def test_no_adapter_is_put_into_the_head(tmp_path, target_modules):
    trainer = adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora(target_modules=target_modules))
    names = [name for name, _ in trainer.model.named_modules() if "lora_A" in name]
    assert names and [name for name in names if "score" in name] == []


def test_the_saved_adapter_holds_every_head_parameter_by_value(tmp_path):
    trainer = adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora())
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    for name, parameter in head(trainer.model).items():
        assert saved[f"base_model.model.score.{name}"].equal(parameter), name


def test_merging_loses_no_head_parameter(tmp_path):
    base(tmp_path)
    trainer = adapter_trainer(tmp_path, load_base(tmp_path), lora())
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    merged = PeftModel.from_pretrained(load_base(tmp_path), tmp_path / "adapter").merge_and_unload()
    assert type(merged) is URMForRewardModeling
    expected = head(trainer.model)
    lost = [name for name, tensor in expected.items() if not tensor.equal(merged.score.get_parameter(name))]
    assert len(expected) == 7 and lost == []
    assert not expected["value.weight"].equal(load_base(tmp_path).score.value.weight)


@pytest.mark.parametrize("standardize_labels", [False, True])
def test_adapter_on_base_merged_gives_the_trained_model_s_outputs(tmp_path, standardize_labels):
    base(tmp_path)
    trainer = adapter_trainer(tmp_path, load_base(tmp_path), lora(), standardize_labels=standardize_labels)
    trainer.train()
    trainer.save_model(str(tmp_path / "adapter"))
    merged = PeftModel.from_pretrained(load_base(tmp_path), tmp_path / "adapter").merge_and_unload()
    assert_close(outputs(merged, trainer), outputs(trainer.model, trainer))


def test_the_trained_model_merged_in_memory_can_be_saved_and_loaded(tmp_path):
    trainer = adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora())
    trainer.train()
    expected = outputs(trainer.model, trainer)
    trainer.model.merge_and_unload().save_pretrained(tmp_path / "merged")
    loaded = AutoModel.from_pretrained(tmp_path / "merged")
    assert_close(outputs(loaded, trainer), expected)


def test_a_frozen_backbone_and_an_adapter_exclude_each_other(tmp_path):
    with pytest.raises(ValueError, match="`freeze_backbone` and `peft_config` exclude each other"):
        adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora(), freeze_backbone=True)


def test_trl_s_own_trainer_stays_as_it_is(tmp_path):
    adapter_trainer(tmp_path, tiny_urm(attributes=ATTRIBUTES), lora())
    config = lora()
    RewardTrainer(
        tiny_urm(),
        RewardConfig(str(tmp_path), bf16=False, **QUIET),
        train_dataset=dataset_of(pair_rows()),
        processing_class=tiny_tokenizer(),
        peft_config=config,
    )
    assert config.modules_to_save is None
