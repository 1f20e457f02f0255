"""What a merged folder holds besides its weights, and members that come from repositories."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests.helpers.members import VALUE, assert_equal_states, edit_json, mean_state, read_state, save_member
from tests.helpers.tiny import tiny_tokenizer
from urm_hf import merge_checkpoints
from urm_hf.checkpoints import files as checkpoint_files
from urm_hf.checkpoints import merging
from urm_hf.modeling import URMForRewardModeling

# What else is in the folder


def test_the_config_is_the_first_s_and_tells_what_was_merged(tmp_path):
    folders = [save_member(tmp_path / str(seed), seed, training={"seed": seed}) for seed in range(2)]
    merge_checkpoints(folders, tmp_path / "merged", weights=[0.25, 0.75])
    before, after = (json.loads((Path(x) / "config.json").read_text()) for x in (folders[0], tmp_path / "merged"))
    assert after.pop("training") == {
        "merged_from": [
            {"name": "0", "revision": None, "weight": 0.25, "training": {"seed": 0}},
            {"name": "1", "revision": None, "weight": 0.75, "training": {"seed": 1}},
        ],
        "log_std": "average",
        "gate": "average",
    }
    del before["training"]
    assert after == before


def test_the_folder_names_no_place_of_this_machine(members, tmp_path, monkeypatch):
    monkeypatch.chdir(members[0])
    merge_checkpoints([".", "../seed-1"], tmp_path / "merged")
    text = (tmp_path / "merged" / "config.json").read_text()
    assert [source["name"] for source in json.loads(text)["training"]["merged_from"]] == ["seed-0", "seed-1"]
    assert not any(place in text for place in (str(tmp_path), '".', "../"))


def test_the_folder_holds_what_save_pretrained_writes(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged")
    assert sorted(x.name for x in (tmp_path / "merged").iterdir()) == sorted(
        x.name for x in Path(members[0]).iterdir()
    )


def test_code_comes_from_the_package_and_never_from_a_member(members, tmp_path):
    for member in members:
        (Path(member) / "modeling_urm.py").write_text("raise RuntimeError('not to be copied')")
    merge_checkpoints(members, tmp_path / "merged")
    source = Path(merging.__file__).parents[1] / "modeling"
    for name in ("configuration_urm.py", "distributions_urm.py", "head_urm.py", "modeling_urm.py"):
        assert (tmp_path / "merged" / name).read_text() == (source / name).read_text()


def test_the_tokenizer_is_the_first_s(members, tmp_path):
    edit_json(Path(members[0]) / "tokenizer_config.json", padding_side="left")
    merge_checkpoints(members, tmp_path / "merged")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert (tokenizer.padding_side, tokenizer.chat_template) == ("left", tiny_tokenizer().chat_template)


def test_the_merged_model_can_be_merged_again(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged")
    merge_checkpoints([str(tmp_path / "merged"), members[0]], tmp_path / "again")
    assert_equal_states(read_state(tmp_path / "again"), mean_state([str(tmp_path / "merged"), members[0]], [0.5, 0.5]))


def test_the_result_measures_how_far_apart_the_members_were(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged")
    states = [read_state(member) for member in members]
    for part, prefix in (("all", ""), ("body", "model."), ("value head", VALUE), ("gate", "score.gate.")):
        a, b = (torch.cat([state[key].flatten() for key in state if key.startswith(prefix)]) for state in states)
        expected = (a - b).norm() / ((a.norm() ** 2 + b.norm() ** 2) / 2).sqrt()
        assert result.differences[part] == [[0, pytest.approx(expected.item(), rel=1e-4)]] + [
            [pytest.approx(expected.item(), rel=1e-4), 0]
        ]
    assert result.parameters == URMForRewardModeling.from_pretrained(members[0]).num_parameters()


# Repositories


def test_a_repository_is_pinned_and_its_commit_is_recorded(members, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(name, revision, allow_patterns, **kwargs):
        calls.append((name, revision, kwargs))
        assert not any("bin" in pattern or pattern.endswith(".py") for pattern in allow_patterns)
        return shutil.copytree(members[0], tmp_path / "snapshots" / "c0ffee")

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    result = merge_checkpoints(
        ["org/urm", members[1]], tmp_path / "merged", revisions=["v1", None], token="t", local_files_only=True
    )
    assert calls == [("org/urm", "v1", {"token": "t", "local_files_only": True})]
    assert result.revisions == ["c0ffee", None]
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    sources = [(source["name"], source["revision"]) for source in config["training"]["merged_from"]]
    assert sources == [("org/urm", "c0ffee"), ("seed-1", None)]


def test_a_repository_is_read_from_the_cache(members, tmp_path, monkeypatch):
    repository, commit = tmp_path / "hub" / "models--org--urm", "1234567890" * 4
    blobs, snapshot = repository / "blobs", repository / "snapshots" / commit
    shutil.copytree(members[0], blobs)
    snapshot.mkdir(parents=True)
    for blob in blobs.iterdir():
        (snapshot / blob.name).symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "v1").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    result = merge_checkpoints(["org/urm", members[1]], tmp_path / "merged", revisions=["v1", None])
    assert result.revisions == [commit, None]
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, [0.5, 0.5]))
    assert [path for path in (tmp_path / "merged").iterdir() if path.is_symlink()] == []


def test_a_revision_of_a_folder_is_refused(members, tmp_path):
    with pytest.raises(ValueError, match="`revision` pins .*seed-1 to 'v1', but it is a folder"):
        merge_checkpoints(members, tmp_path / "merged", revisions=[None, "v1"])


@pytest.mark.parametrize("name", ["/nowhere/urm", "./nowhere", "a/b/c"])
def test_a_missing_folder_is_not_looked_for_on_the_hub(members, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"{name} is no folder here"):
        merge_checkpoints([members[0], name], tmp_path / "merged")
