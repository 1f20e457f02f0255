"""Merging in bounded memory; a crash or a refusal leaves nothing."""

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.helpers.members import interrupt_second_shard, save_member
from tests.helpers.tiny import OpenedFile
from urm_hf import merge_checkpoints
from urm_hf.checkpoints import files as checkpoint_files


def test_at_most_one_tensor_of_each_member_and_one_shard_are_in_memory(tmp_path, monkeypatch):
    folders = [save_member(tmp_path / str(seed), seed, max_shard_size="50KB") for seed in range(3)]
    alive, most, shards, written = [], [], [], []

    class Spy(OpenedFile):
        def get_tensor(self, key):
            array = self.file.get_tensor(key).numpy().copy()  # lives as long as any tensor or view that reads it
            alive.append(key)
            weakref.finalize(array, alive.remove, key)
            most.append(len(alive))
            assert set(alive) == {key} or set(alive) == {"score.feature_mean", "score.feature_scale"}
            return torch.from_numpy(array)

    def save(tensors, *args, **kwargs):
        assert [tensor for shard in shards for tensor in shard if tensor() is not None] == []
        shards.append([weakref.ref(tensor) for tensor in tensors.values()])
        written.append(sum(tensor.nbytes for tensor in tensors.values()))
        save_file(tensors, *args, **kwargs)

    monkeypatch.setattr(checkpoint_files, "safe_open", Spy)
    monkeypatch.setattr(checkpoint_files, "save_file", save)
    merge_checkpoints(folders, tmp_path / "merged", max_shard_size="70KB")
    assert max(most) == 3
    assert alive == []
    assert len(written) > 1
    assert max(written) <= 70_000


def test_a_crash_in_the_middle_leaves_nothing(members, tmp_path, monkeypatch):
    interrupt_second_shard(monkeypatch, tmp_path / "merged")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        merge_checkpoints(members, tmp_path / "merged", max_shard_size="70KB")
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_under_the_final_name_until_all_is_written(members, tmp_path, monkeypatch):
    seen = []

    def save(*args, **kwargs):
        seen.append((tmp_path / "x" / "m").exists())
        save_file(*args, **kwargs)

    monkeypatch.setattr(checkpoint_files, "save_file", save)
    merge_checkpoints(members, tmp_path / "x" / "m", max_shard_size="70KB")
    assert set(seen) == {False}
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["m"]


def test_a_refusal_leaves_nothing(members, tmp_path):
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match="identical"):
        merge_checkpoints([members[0], members[0]], tmp_path / "merged")
    assert sorted(tmp_path.iterdir()) == before


def test_an_empty_folder_is_filled(members, tmp_path):
    (tmp_path / "merged").mkdir()
    merge_checkpoints(members, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").exists()
    assert (tmp_path / "merged").stat().st_mode == Path(members[0]).stat().st_mode


@pytest.mark.parametrize("occupied", ["folder", "file"])
def test_an_existing_output_is_not_overwritten(members, tmp_path, occupied):
    output = tmp_path / "merged"
    if occupied == "folder":
        output.mkdir()
    kept = output / "note.txt" if occupied == "folder" else output
    kept.write_text("mine")
    with pytest.raises(FileExistsError, match="`output_dir` .*merged exists and is not an empty folder"):
        merge_checkpoints(members, output)
    assert kept.read_text() == "mine"
