"""What an earlier run has left in the output folder is never replaced without being asked to."""

from types import SimpleNamespace

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, rated_rows
from urm_hf.cli import main
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.outputs import check_run_folder, remove_other_kind

QUICK = ["--use_cpu", "true", "--report_to", "none", "--max_steps", "1", "--save_strategy", "no"]


def check(folder, model=None, overwrite=False, resume=None, dry_run=False):
    args = SimpleNamespace(output_dir=str(folder), resume_from_checkpoint=resume, dry_run=dry_run)
    check_run_folder(DataArguments("rows.jsonl", overwrite=overwrite), args, model)


def leave_checkpoint(folder):
    (folder / "checkpoint-3").mkdir(parents=True)
    (folder / "checkpoint-3" / "trainer_state.json").write_text('{"global_step": 3}')


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model-00001-of-00002.safetensors", "adapter_model.safetensors"]
)
def test_a_finished_model_is_replaced_only_on_request(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(FileExistsError, match="holds a finished model.*`--out`.*`--overwrite`"):
        check(tmp_path)
    check(tmp_path, overwrite=True)
    check(tmp_path, resume="true")
    check(tmp_path, dry_run=True)


def test_a_run_that_did_not_finish_goes_on_or_starts_over_on_request(tmp_path):
    leave_checkpoint(tmp_path)
    with pytest.raises(FileExistsError, match="did not finish.*`--resume_from_checkpoint true`.*`--overwrite`"):
        check(tmp_path)
    with pytest.raises(FileExistsError, match="did not finish"):
        check(tmp_path, resume="false")
    check(tmp_path, resume=True)
    check(tmp_path, overwrite=True)


def test_what_is_no_model_is_in_nobody_s_way(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("{}")  # killed while the model was saved
    (tmp_path / "checkpoint-3").mkdir()  # killed while it was written: there is nothing to go on from
    check(tmp_path)
    check(tmp_path / "new")


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_model_that_is_trained_from_is_never_written_to(tmp_path, overwrite):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="is the model that is trained from"):
        check(tmp_path, model=str(tmp_path / ".." / tmp_path.name), overwrite=overwrite)


@pytest.mark.parametrize("is_adapter", [False, True])
def test_weights_of_the_other_kind_go_with_the_model_that_they_were_of(tmp_path, is_adapter):
    whole = ["model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]
    adapter = ["adapter_config.json", "adapter_model.safetensors"]
    for name in [*whole, *adapter, "config.json", "tokenizer.json"]:
        (tmp_path / name).write_text("{}")
    remove_other_kind(tmp_path, is_adapter=is_adapter)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"config.json", "tokenizer.json", *(adapter if is_adapter else whole)}


@pytest.fixture
def stage(tmp_path, monkeypatch) -> list[str]:
    """The command of an attribute stage on a tiny URM, without its output folder."""
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    rows = write(tmp_path / "ratings.jsonl", rated_rows(12))
    return ["train", "attributes", "--model", str(tmp_path / "urm"), "--data", rows, *QUICK]


def test_the_command_refuses_in_one_line_and_overwrites_on_request(stage, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([*stage, "--out", str(out)]) == 0
    leave_checkpoint(out)
    before = (out / "model.safetensors").read_bytes()
    capsys.readouterr()
    assert main([*stage, "--out", str(out), "--seed", "7"]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1 and "holds a finished model" in told[0]
    assert (out / "model.safetensors").read_bytes() == before
    assert main([*stage, "--out", str(out), "--seed", "7", "--overwrite"]) == 0
    assert (out / "model.safetensors").read_bytes() != before
    assert not list(out.glob("checkpoint-*"))  # of the run before


def test_a_gate_is_not_replaced_by_fixed_weights_without_being_asked_to(stage, tmp_path, capsys):
    out = tmp_path / "weighed"
    argv = ["train", "gating", "--model", str(tmp_path / "urm"), "--data", "none.jsonl", "--out", str(out)]
    argv += ["--reward_weights", "0.5", "0.5", "--report_to", "none", "--use_cpu", "true"]
    assert main(argv) == 0
    assert main(argv) == 2 and "holds a finished model" in capsys.readouterr().err
    assert main([*argv, "--overwrite"]) == 0


def test_an_ensemble_looks_at_every_member_before_the_first_one_trains(stage, tmp_path, capsys):
    flags = {"model_name_or_path": stage[3], "dataset_name": stage[5], "use_cpu": "true", "report_to": "none"}
    config = tmp_path / "attributes.yaml"
    config.write_text("".join(f"{name}: {value}\n" for name, value in flags.items()) + "max_steps: 1\n")
    (tmp_path / "run" / "member-1").mkdir(parents=True)
    (tmp_path / "run" / "member-1" / "model.safetensors").write_text("")
    argv = ["train", "ensemble", "--attributes-config", str(config), "--members", "2", "--out", str(tmp_path / "run")]
    assert main(argv) == 2
    told = capsys.readouterr()
    assert "member-1 holds a finished model" in told.err and "Member 0" not in told.out
    assert not (tmp_path / "run" / "member-0").exists()
    assert main([*argv, "--overwrite"]) == 0
    assert (tmp_path / "run" / "ensemble" / "config.json").is_file()
