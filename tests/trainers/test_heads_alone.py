"""What training on a frozen backbone leaves on disk: heads that name it, in checkpoints and in the end."""

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_urm
from tests.helpers.training import ATTRIBUTES, QUIET, dataset_of, pair_rows, rated_rows
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer

SAVED = {"save_strategy": "epoch", "num_train_epochs": 3, "per_device_train_batch_size": 4}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("base")
    torch.manual_seed(0)
    return save_with_tokenizer(AutoModelForCausalLM.from_config(tiny_backbone_config()), folder)


def attributes(base: str, folder: Path, **config) -> URMAttributeTrainer:
    settings = QUIET | SAVED | {"freeze_backbone": True, "attributes": ATTRIBUTES, "cache_dir": str(folder / "cache")}
    args = URMAttributeConfig(str(folder), **settings | config)
    return URMAttributeTrainer(base, args, train_dataset=dataset_of(rated_rows()))


def gating(model: str, folder: Path, **config) -> URMGatingTrainer:
    args = URMGatingConfig(str(folder), **QUIET | SAVED | {"cache_dir": str(folder / "cache")} | config)
    return URMGatingTrainer(model, args, train_dataset=dataset_of(pair_rows()))


def keys(folder: Path) -> set[str]:
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        return {key.split(".")[0] for key in file.keys()}  # noqa: SIM118  (it is no mapping)


def test_both_stages_save_heads_alone_and_keep_one_checkpoint(base, tmp_path):
    first = attributes(base, tmp_path / "attributes")
    first.train()
    first.save_model()
    assert [path.name for path in (tmp_path / "attributes").glob("checkpoint-*")] == ["checkpoint-9"]
    second = gating(str(tmp_path / "attributes"), tmp_path / "urm")
    second.train()
    second.save_model()
    for folder in ("attributes", "attributes/checkpoint-9", "urm"):
        assert keys(tmp_path / folder) == {"score"}
        assert json.loads((tmp_path / folder / "config.json").read_text())["base_weights"]["name"] == base
    loaded = URMForRewardModeling.from_pretrained(tmp_path / "urm").state_dict()
    for key, tensor in second.model.state_dict().items():
        assert loaded[key].equal(tensor), key


def test_a_run_resumes_from_heads_alone_without_a_word_on_the_backbone(base, tmp_path, caplog):
    whole = attributes(base, tmp_path / "whole")
    whole.train()
    part = attributes(base, tmp_path / "part", max_steps=6, lr_scheduler_type="constant")
    part.train()
    with caplog.at_level(logging.WARNING, logger="transformers"):
        rest = attributes(base, tmp_path / "part")
        rest.train(resume_from_checkpoint=str(tmp_path / "part" / "checkpoint-6"))
    assert "missing keys" not in caplog.text
    assert rest.state.global_step == whole.state.global_step == 9
    assert rest.model.state_dict()["model.layers.0.mlp.up_proj.weight"].equal(
        whole.model.state_dict()["model.layers.0.mlp.up_proj.weight"]
    )


def test_the_backbone_is_saved_where_it_was_asked_for_or_trains(base, tmp_path):
    asked = attributes(base, tmp_path / "asked", save_backbone=True)
    asked.save_model()
    heads = attributes(base, tmp_path / "heads")
    heads.save_model()
    trained = attributes(str(tmp_path / "heads"), tmp_path / "trained", freeze_backbone=False, max_steps=1)
    trained.train()
    trained.save_model()
    again = gating(str(tmp_path / "heads"), tmp_path / "again", save_backbone=True)
    again.save_model()
    assert [keys(tmp_path / name) for name in ("asked", "heads", "trained", "again")] == [
        {"model", "score"},
        {"score"},
        {"model", "score"},
        {"model", "score"},
    ]


def test_a_whole_urm_stays_whole(tmp_path):
    folder = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    gating(folder, tmp_path / "gated").save_model()
    assert keys(tmp_path / "gated") == {"model", "score"}
