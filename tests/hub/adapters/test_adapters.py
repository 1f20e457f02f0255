"""LoRA adapters over the wire: pushed with their base pinned, loaded alone and as an ensemble, verified, refused."""

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from tests.helpers.adapters import ADAPTERS, FILES, edit, form, rewards
from tests.helpers.hub_folders import edit_config
from tests.helpers.hub_repositories import READER
from tests.helpers.programs import run_program
from tests.helpers.tiny import WITHOUT_PACKAGE
from tests.helpers.tolerances import assert_close, close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.checkpoints.adapters import load_adapter
from urm_hf.cli import main
from urm_hf.hub.errors import HubError
from urm_hf.hub.publish import push
from urm_hf.hub.reference import CONVERSATIONS
from urm_hf.hub.verify import verify

STRANGER_S_SESSION = (
    WITHOUT_PACKAGE
    + """
import json, os
import torch
from transformers import AutoModel, AutoTokenizer

asked = json.load(sys.stdin)
tokenizer = AutoTokenizer.from_pretrained("org/urme")
model = AutoModel.from_pretrained("org/urme", revision=asked["revision"], trust_remote_code=True)
with torch.no_grad():
    rewards = [
        model(**tokenizer.apply_chat_template([c], return_tensors="pt", return_dict=True)).rewards[:, 0].tolist()
        for c in asked["conversations"]
    ]
print("RESULT" + json.dumps([model.strategy, len(model.members), rewards]))
"""
)


# What is published


def test_what_arrives_is_the_adapter_with_its_base_at_a_commit(server, pushed):
    files = server.files(ADAPTERS[0], pushed[ADAPTERS[0]])
    assert set(files) >= FILES and "modeling_urm.py" not in files and "model.safetensors" not in files
    adapter = json.loads(files["adapter_config.json"])
    assert (adapter["base_model_name_or_path"], adapter["revision"]) == ("org/base", pushed["base"])
    card = ModelCard(files["README.md"].decode())
    assert card.data.base_model == "org/base" and card.data.license == "mit" and pushed["base"] in card.text
    assert "More Information" not in card.text and "load_adapter" in card.text
    assert AutoConfig.from_pretrained(ADAPTERS[0]).attributes == ["help", "depth"]


@pytest.mark.parametrize("number", [0, 1])
def test_a_scorer_and_load_merged_give_the_rewards_of_training_by_repository(pushed, expected, number):
    name = ADAPTERS[number]
    assert rewards(name, revision=pushed[name]) == close(expected[number])
    merged = load_adapter(name, revision=pushed[name])
    assert rewards(merged) == close(expected[number])  # with the adapter's tokenizer


@pytest.mark.parametrize("strategy", ["shared", "resident", "sequential"])
def test_an_ensemble_of_repositories_gives_the_members_rewards(pushed, expected, strategy):
    ensemble = URMEnsemble.from_pretrained(ADAPTERS, strategy=strategy)
    assert ensemble.config.revisions == [pushed[name] for name in ADAPTERS]
    scores = RewardScorer(ensemble).score(list(CONVERSATIONS.values()))
    found = torch.tensor([score.member_rewards for score in scores]).T
    assert_close(found, torch.tensor(expected))
    assert min(score.reward_gap for score in scores) > 0.01


@pytest.mark.slow
def test_a_stranger_loads_a_pushed_ensemble_of_adapters_without_this_package(server, pushed, expected, tmp_path):
    URMEnsemble.from_pretrained(ADAPTERS, strategy="shared").save_pretrained(tmp_path / "urme")
    commit = push(tmp_path / "urme", "org/urme").commit
    asked = {"revision": commit, "conversations": list(CONVERSATIONS.values())}
    printed = run_program(STRANGER_S_SESSION, asked, tmp_path, server.environment(tmp_path, READER), "-I")
    strategy, members, found = json.loads(printed.rpartition("RESULT")[2])
    assert (strategy, members) == ("shared", 1)
    assert_close(torch.tensor(found).T, torch.tensor(expected))
    assert {check.name for check in verify("org/urme", commit) if check.ok} >= {"files", "code", "load", "scores"}


def test_verify_takes_an_adapter(pushed, capsys):
    assert main(["verify", ADAPTERS[0], "--revision", pushed[ADAPTERS[0]]]) == 0
    out = capsys.readouterr().out
    assert "an adapter of org/base" in out and "6 conversations as stored" in out


def test_verify_names_what_is_wrong_with_an_adapter(pushed, folder):
    def failed() -> dict[str, str]:
        return {check.name: check.detail for check in verify(folder) if check.ok is False}

    assert failed() == {}
    edit(folder, revision=None)  # the newer base has other weights
    assert "org/base is not pinned" in failed()["files"] and "has other weights" in failed()["load"]
    edit_config(folder, adapter_base=None)  # and without a record of the first, the adapter scores otherwise
    assert "differs by" in failed()["scores"]
    edit(folder, revision=pushed["base"])
    tensors = load_file(folder / "adapter_model.safetensors")
    value, lora = "base_model.model.score.value.weight", next(key for key in tensors if "lora_B" in key)
    save_file(tensors | {value: tensors[value] * 1.5}, folder / "adapter_model.safetensors")
    assert "written for other weights" in failed()["scores"]
    for lost in (value, lora):
        kept = {key: tensor for key, tensor in tensors.items() if key != lost}
        save_file(kept, folder / "adapter_model.safetensors")
        assert lost in failed()["load"]
    save_file(tensors | {value: tensors[value] * float("nan")}, folder / "adapter_model.safetensors")
    assert value in failed()["finite"]
    save_file(tensors | {value: tensors[value].half()}, folder / "adapter_model.safetensors")
    assert "head must be float32" in failed()["dtypes"]


def test_a_line_to_load_it_is_printed(server, pushed, folder, capsys):
    assert main(["push", str(folder), "org/other"]) == 0
    commit = server.repositories["org/other"].branches["main"]
    assert f'load_adapter("org/other", revision="{commit}")' in capsys.readouterr().out


def no_weights(folder: Path):
    (folder / "adapter_model.safetensors").unlink()


def pickled(folder: Path):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


REFUSED = {
    "a local base": (
        lambda folder: edit(folder, base_model_name_or_path=str(folder)),
        "its base .* is a local folder.*push the base first",
    ),
    "no base": (lambda folder: edit(folder, base_model_name_or_path=""), "names no base"),
    "no weights": (no_weights, "adapter_model.safetensors is missing"),
    "pickled": (pickled, "pickled files.*adapter_model.bin"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "no config.json of its URM.*complete_adapter"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer"),
    "a form as a card": (form, "form with blanks.*--overwrite-card"),
    "weights besides": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        "adapter_config.json: transformers would put",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_that_others_could_not_load_is_refused(server, pushed, folder, name):
    spoil, message = REFUSED[name]
    spoil(folder)
    before = len(server.requests)
    with pytest.raises(ValueError, match=message):
        push(folder, "org/refused")
    assert not any(method != "GET" and method != "HEAD" for method, *_ in server.requests[before:])
    assert "org/refused" not in server.repositories


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model_name_or_path": "org/nothing", "revision": None}, "org/nothing does not exist, or is private"),
        ({"revision": "v9"}, "org/base has no revision v9"),
    ],
)
def test_a_base_that_is_not_there_is_told(pushed, folder, change, message):
    edit(folder, **change)
    with pytest.raises(HubError, match=f"the base of .* cannot be looked up: {message}"):
        push(folder, "org/refused")


def test_the_base_is_recorded_by_its_commit_and_where_it_lay_is_not_published(server, pushed, folder):
    record = json.loads((folder / "config.json").read_text())["adapter_base"]
    assert (record["name"], record["commit"]) == ("org/base", pushed["base"])
    edit_config(folder, adapter_base=record | {"name": "/home/me/base"})  # pushed after the training
    commit = push(folder, "org/moved").commit
    config = json.loads(server.files("org/moved", commit)["config.json"])
    assert config["adapter_base"] == record | {"name": "base"}


def test_a_branch_of_the_base_becomes_its_commit(server, pushed, folder):
    HfApi().create_branch("org/base", branch="old", revision=pushed["base"], exist_ok=True)
    server.repositories["org/base"].branches["old"] = pushed["base"]
    edit(folder, revision="old")
    result = push(folder, "org/branch", dry_run=True)
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] == pushed["base"]
    assert f"adapter_config.json: the base org/base is pinned to commit {pushed['base']}" in result.notes


def test_adapters_of_unlike_commits_of_their_base_are_not_shared(server, pushed, folder):
    edit(folder, revision=server.repositories["org/base"].branches["main"])
    with pytest.raises(ValueError, match=f"do not share a base: .*adapter-1 on org/base at {pushed['base']}"):
        URMEnsemble.from_pretrained([str(folder), ADAPTERS[1]], strategy="shared")


@pytest.mark.parametrize("strategy", ["resident", "sequential"])
def test_adapters_of_unlike_commits_of_their_base_are_loaded_each_on_its_own(server, pushed, folder, strategy):
    edit(folder, revision=server.repositories["org/base"].branches["main"])
    edit_config(folder, adapter_base=None)  # it was trained on the other one
    ensemble = URMEnsemble.from_pretrained([str(folder), ADAPTERS[1]], strategy=strategy)
    found = [score.member_rewards for score in RewardScorer(ensemble).score(list(CONVERSATIONS.values()))]
    assert [ours for ours, _ in found] == close(rewards(str(folder)))
    assert [theirs for _, theirs in found] == close(rewards(ADAPTERS[1]))
    assert rewards(str(folder)) != pytest.approx(rewards(ADAPTERS[0]), abs=1e-2)


def test_verify_tells_in_one_line_that_the_base_is_not_there(pushed, folder):
    edit(folder, base_model_name_or_path="org/nothing")
    (told,) = [check.detail for check in verify(folder) if check.name == "load"]
    assert "org/nothing" in told and "\n" not in told
