"""A disk that fills up while a run is saved: one line that names the place, and no part of a checkpoint is left."""

import json
import resource
import shutil
from contextlib import contextmanager

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.trainers.resuming import find_checkpoint

RATED = [{"prompt": "Why?", "response": f"Because {n}.", "help": n % 3, "depth": n % 2} for n in range(4)]
PAIRS = [{"prompt": "Name a river.", "chosen": f"The Po {n}.", "rejected": f"Rome {n}."} for n in range(4)]


@contextmanager
def files_up_to(size: int):
    """As on a full disk, writing beyond this size of a file is an error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def train(tmp_path, monkeypatch):
    """A function that runs a stage with a checkpoint after its only step."""
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path / "urm")
    for name, rows in {"attributes": RATED, "gating": PAIRS}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(stage: str, *options: str) -> int:
        argv = ["train", stage, "--model_name_or_path", str(tmp_path / "urm"), "--output_dir", str(tmp_path / "out")]
        argv += ["--dataset_name", str(tmp_path / f"{stage}.jsonl"), "--max_steps", "1", "--report_to", "none"]
        return main([*argv, "--use_cpu", "--save_steps", "1", "--save_strategy", "steps", *options])

    return run


def told_in_one_line(capsys, *words: str):
    said = capsys.readouterr().err
    _, line = said.split("urm train: error: ")  # after a progress bar perhaps
    assert "Traceback" not in said and line.count("\n") == 1
    for word in words:
        assert word in line, line


@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_each_file_of_a_checkpoint(stage, train, tmp_path, capsys):
    assert train(stage) == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out" / "checkpoint-1").iterdir()}
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "trainer_state.json"):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)  # a run that wrote nothing leaves no folder
        capsys.readouterr()
        with files_up_to(sizes[name] - 1):
            assert train(stage) == 2
        told_in_one_line(capsys, str(tmp_path / "out"), "write elsewhere")
        assert not list((tmp_path / "out").glob("checkpoint-*"))
        assert find_checkpoint(tmp_path / "out", True) is None


def test_the_model_at_the_end(train, tmp_path, capsys):
    assert train("attributes", "--save_strategy", "no") == 0
    size = (tmp_path / "out" / "model.safetensors").stat().st_size
    shutil.rmtree(tmp_path / "out")
    capsys.readouterr()
    with files_up_to(size - 1):
        assert train("attributes", "--save_strategy", "no") == 2
    told_in_one_line(capsys, str(tmp_path / "out"), "write elsewhere")


def test_a_state_cut_short_is_no_whole_checkpoint(tmp_path):
    for number, state in enumerate(["{}", '{"epoch": 1', "", "[]"]):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    assert find_checkpoint(tmp_path, True) is None


def test_a_damaged_checkpoint_is_told_where_it_is_resumed_from(train, tmp_path, capsys):
    assert train("attributes", "--max_steps", "2", "--save_total_limit", "2") == 0
    for name in ("model.safetensors", "optimizer.pt"):
        checkpoint = tmp_path / "out" / "checkpoint-1"
        former = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(former[: len(former) // 2])
        capsys.readouterr()
        assert train("attributes", "--max_steps", "2", "--resume_from_checkpoint", str(checkpoint)) == 2
        told_in_one_line(capsys, str(checkpoint), "download it again")
        (checkpoint / name).write_bytes(former)
