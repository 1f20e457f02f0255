"""Resuming finds the newest checkpoint that was written whole."""

from pathlib import Path

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, pair_rows, rated_rows
from urm_hf.cli import main
from urm_hf.trainers.resuming import find_checkpoint, is_finished


def checkpoint(folder, step, whole=True):
    path = folder / f"checkpoint-{step}"
    path.mkdir()
    if whole:
        (path / "trainer_state.json").write_text('{"global_step": 1}')
    return str(path)


def test_the_newest_whole_checkpoint_is_found(tmp_path):
    assert find_checkpoint(tmp_path, "true") is None  # a first run starts from the beginning
    checkpoint(tmp_path, 9)
    newest = checkpoint(tmp_path, 10)
    checkpoint(tmp_path, 11, whole=False)  # killed while it was written
    assert find_checkpoint(tmp_path, "True") == find_checkpoint(tmp_path, True) == newest
    assert find_checkpoint(tmp_path, None) is find_checkpoint(tmp_path, "false") is None


@pytest.mark.parametrize("state", ["", '{"global_step": 1', "[]"])
def test_a_checkpoint_whose_state_was_cut_short_is_not_whole(tmp_path, state):
    whole = checkpoint(tmp_path, 3)
    (Path(checkpoint(tmp_path, 6)) / "trainer_state.json").write_text(state)
    assert find_checkpoint(tmp_path, "true") == whole
    with pytest.raises(FileNotFoundError, match="checkpoint-6 is no whole checkpoint"):
        find_checkpoint(tmp_path, str(tmp_path / "checkpoint-6"))


def test_a_folder_by_name_must_be_a_whole_checkpoint(tmp_path):
    assert find_checkpoint("elsewhere", checkpoint(tmp_path, 3)).endswith("checkpoint-3")
    with pytest.raises(FileNotFoundError, match=r"checkpoint-4 is no whole checkpoint .*`true`"):
        find_checkpoint(tmp_path, checkpoint(tmp_path, 4, whole=False))


def test_the_command_resumes_by_itself(tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", rated_rows())
    model = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    argv = ["train", "attributes", "--model_name_or_path", model, "--dataset_name", data, "--use_cpu"]
    argv += ["--output_dir", str(tmp_path / "out"), "--save_steps", "2", "--report_to", "none", "--logging_steps", "1"]
    argv += ["--resume_from_checkpoint", "true"]
    assert main([*argv, "--max_steps", "2"]) == 0
    assert main([*argv, "--max_steps", "4"]) == 0
    assert (tmp_path / "out" / "checkpoint-4").is_dir()
    history = (tmp_path / "out" / "trainer_state.json").read_text()
    assert history.count('"loss"') == 4  # two steps of the first run, two of the second


def test_a_checkpoint_is_the_end_of_the_run_that_is_asked_for(tmp_path):
    state = tmp_path / "trainer_state.json"
    state.write_text('{"global_step": 6, "max_steps": 6, "num_train_epochs": 2}')
    assert is_finished(tmp_path, 6, 3) and not is_finished(tmp_path, 7, 3)
    assert is_finished(tmp_path, -1, 2) and not is_finished(tmp_path, -1, 3)
    state.write_text('{"global_step": 4, "max_steps": 6, "num_train_epochs": 2}')
    assert not is_finished(tmp_path, -1, 2)


@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_a_run_that_was_killed_after_its_last_step_makes_no_further_one(tmp_path, stage):
    rows = rated_rows(14) if stage == "attributes" else pair_rows(14)
    model = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    argv = ["train", stage, "--model_name_or_path", model, "--dataset_name", write(tmp_path / "rows.jsonl", rows)]
    argv += ["--output_dir", str(tmp_path / "out"), "--max_steps", "3", "--save_steps", "3", "--report_to", "none"]
    argv += ["--per_device_train_batch_size", "4", "--use_cpu", "--resume_from_checkpoint", "true"]
    assert main(argv) == 0
    weights = tmp_path / "out" / "model.safetensors"
    whole = weights.read_bytes()
    weights.unlink()
    assert main(argv) == 0
    assert weights.read_bytes() == whole
    assert sorted(path.name for path in (tmp_path / "out").glob("checkpoint-*")) == ["checkpoint-3"]
