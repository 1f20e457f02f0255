"""One error for a model that is not there, whoever is asked for it."""

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling, load_adapter
from urm_hf.checkpoints.adapters import is_adapter
from urm_hf.checkpoints.merging import merge_checkpoints
from urm_hf.checkpoints.published import convert_published
from urm_hf.modeling.hub_place_urm import check_name
from urm_hf.modeling.tokenizer_urm import load_tokenizer
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer

LOADERS = {
    "scorer": RewardScorer,
    "model": URMForRewardModeling.from_pretrained,
    "backbone": URMForRewardModeling.from_backbone,
    "ensemble": URMEnsemble.from_pretrained,
    "members": lambda name: URMEnsemble.from_pretrained([name, "another"]),
    "adapter": load_adapter,
    "is adapter": is_adapter,
    "tokenizer": load_tokenizer,
    "merge": lambda name: merge_checkpoints([name, name], "merged"),
    "convert": lambda name: convert_published(name, "converted"),
    "trainer": lambda name: URMAttributeTrainer(name, URMAttributeConfig("run", use_cpu=True, report_to="none")),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=list(LOADERS))
@pytest.mark.parametrize("name", ["./absent", "/absent/model", "bad name!", "a--b", ""])
def test_what_can_only_be_a_folder_is_told_to_be_none(tmp_path, monkeypatch, load, name):
    monkeypatch.chdir(tmp_path)
    if name == "" and load is not RewardScorer:
        return
    with pytest.raises(OSError, match="is no folder here, and no name of a repository, 'org/name'"):
        load(name)


@pytest.mark.parametrize("load", [RewardScorer, URMEnsemble.from_pretrained, URMForRewardModeling.from_pretrained])
def test_a_repository_that_cannot_be_asked_for_is_told(load):
    with pytest.raises(OSError, match="org/absent is no folder here, and the Hub cannot be asked"):
        load("org/absent")


def test_a_file_is_told_to_be_one(tmp_path):
    folder = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    with pytest.raises(OSError, match="model.safetensors is a file: name the folder"):
        RewardScorer(f"{folder}/model.safetensors")
    for wrong in (None, 7):
        with pytest.raises(ValueError, match="`model` must be a model or the name of one"):
            RewardScorer(wrong)


@pytest.mark.parametrize("name", ["gpt2", "org/model-1.5_b", "o/x", "Qwen/Qwen3-0.6B"])
def test_names_of_repositories_pass(name):
    check_name(name)


def test_a_server_without_its_scheme_is_told_how_servers_are_named():
    with pytest.raises(OSError, match="'org/name'. A server is named with http:// before it"):
        RewardScorer("127.0.0.1:8770")
