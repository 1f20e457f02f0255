"""Several runs on one output: whoever ends, in whatever way, harms no other; one output, written once."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.helpers.programs import start
from tests.helpers.score_runs import ROWS, score, write
from urm_hf.scoring.jobs.parts import PartFolder

SIZE = 5
PRELOADED = [__name__, "urm_hf.scoring.jobs.processes", "transformers.models.llama"]


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", [row | {"id": [n, row["id"]]} for n in range(4) for row in ROWS])


def run_once(model: str, data: Path, out: Path, *argv):
    """The whole command in a process of its own, where Ctrl-C is what it is at a terminal."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    os._exit(score(model, "--data", data, "--out", out, "--rows-per-part", SIZE, *argv))


def begin(*argv):
    return start(run_once, argv, PRELOADED)


def wait_for_parts(out: Path, count: int):
    folder = out.with_name(f"{out.name}.parts")
    while len(list(folder.glob("*.rows"))) < count and not out.exists():
        time.sleep(0.005)


@pytest.mark.slow
def test_ten_of_ten_double_runs_end_well(saved_urm, data, tmp_path, record_property):
    record_property("trials", 10)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE) == 0
    for _ in range(10):
        both = [begin(saved_urm, data, out) for _ in range(2)]
        for process in both:
            process.join()
        assert [process.exitcode for process in both] == [0, 0]
        assert out.read_bytes() == whole.read_bytes()
        assert not (tmp_path / "out.jsonl.parts").exists()
        out.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_the_other_at_work(saved_urm, data, tmp_path, how):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE) == 0
    stopped, other = begin(saved_urm, data, out), begin(saved_urm, data, out)
    wait_for_parts(out, 1)
    os.kill(stopped.pid, how)
    other.join()
    stopped.join()
    assert other.exitcode == 0 and out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "out.jsonl.parts").exists()


@pytest.mark.slow
def test_an_error_of_one_run_leaves_the_other_at_work(saved_urm, data, tmp_path):
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE) == 0
    good, bad = begin(saved_urm, data, out), begin(saved_urm, data, out, "--max-length", "1")
    bad.join()
    good.join()
    assert bad.exitcode == 2 and good.exitcode == 0
    assert out.read_bytes() == whole.read_bytes()


# What they do to one folder, step by step

MANIFEST = {"model": ["a@1"]}


def folder_of(out: Path) -> PartFolder:
    folder = PartFolder(out, MANIFEST, 2)
    folder.open()
    return folder


def write_part(folder: PartFolder, number: int):
    folder.write(number, [{"id": number}], [], {"rows": 1, "scored": 1})


def test_a_folder_in_which_another_works_is_not_removed(tmp_path):
    one, other = folder_of(tmp_path / "out.jsonl"), folder_of(tmp_path / "out.jsonl")
    lock = other.claim(0)
    one.remove_if_empty()
    assert other.path.is_dir()
    lock.release()
    one.remove_if_empty()
    assert not other.path.exists()


def test_a_folder_that_was_removed_before_a_part_was_claimed_is_made_anew(tmp_path):
    one, other = folder_of(tmp_path / "out.jsonl"), folder_of(tmp_path / "out.jsonl")
    one.remove_if_empty()
    lock = other.claim(1)
    write_part(other, 1)
    lock.release()
    write_part(other, 0)
    assert other.merge()["scored"] == 2
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == [{"id": 0}, {"id": 1}]


def test_whoever_comes_after_the_merge_has_nothing_to_do(tmp_path):
    one, other = folder_of(tmp_path / "out.jsonl"), folder_of(tmp_path / "out.jsonl")
    for number in (0, 1):
        write_part(one, number)
    assert not other.finished_by_another()
    assert one.merge()["scored"] == 2
    assert other.finished_by_another() and other.claim(0) is None and other.merge() is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl"]


def test_an_output_that_is_there_already_does_not_count_as_anothers(tmp_path):
    (tmp_path / "out.jsonl").write_text("old")
    folder = folder_of(tmp_path / "out.jsonl")
    assert not folder.finished_by_another()
    for number in (0, 1):
        write_part(folder, number)
    folder.merge()
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 2
