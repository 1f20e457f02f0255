"""Files that appear whole, and what a killed process leaves behind."""

import os
import signal
from contextlib import suppress

import pytest

from urm_hf.checkpoints.files import appears_whole, write_file, write_json


def test_a_folder_that_a_killed_process_left_is_removed_by_the_next(tmp_path):
    child = os.fork()
    if child == 0:  # nothing of pytest may go on in it, whatever happens
        with suppress(BaseException), appears_whole(tmp_path / "merged") as folder:
            (folder / "model.safetensors").write_bytes(b"x" * 1000)
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    (left,) = tmp_path.glob(".merged.*")
    assert list(left.rglob("model.safetensors"))
    foreign = tmp_path / ".merged.notes"
    foreign.mkdir()
    with appears_whole(tmp_path / "merged") as folder:
        (folder / "config.json").write_text("{}")
    assert sorted(path.name for path in tmp_path.glob(".merged.*")) == [".merged.notes"]
    assert (tmp_path / "merged" / "config.json").is_file()


def test_what_a_process_left_that_was_killed_as_its_last_act_is_removed_too(tmp_path):
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "config.json").write_text("{}")
    left = tmp_path / ".merged.abcdefgh.unfinished"
    left.mkdir()
    (left / "lock").touch()
    (tmp_path / ".merged.ijklmnop.unfinished").mkdir()  # killed before it had its lock
    with pytest.raises(FileExistsError, match="not an empty folder"), appears_whole(tmp_path / "merged"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["merged"]


def test_a_file_that_a_killed_process_left_is_removed_by_the_next(tmp_path):
    (tmp_path / ".README.md.01234567.tmp").write_text("half")
    (tmp_path / ".README.md.notes.tmp").write_text("mine")
    write_file(tmp_path / "README.md", b"card")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".README.md.notes.tmp", "README.md"]


def test_the_folder_of_a_process_that_lives_stays(tmp_path):
    with appears_whole(tmp_path / "out") as first:
        (first / "config.json").write_text("first")
        with pytest.raises(OSError), appears_whole(tmp_path / "out") as second:
            assert first.is_dir()
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "taken").write_text("")
            (second / "config.json").write_text("second")
        (tmp_path / "out" / "taken").unlink()
    assert (tmp_path / "out" / "config.json").read_text() == "first"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "outside").write_text("mine")
    os.symlink(tmp_path / "outside", tmp_path / "README.md")
    write_file(tmp_path / "README.md", b"card")
    assert (tmp_path / "outside").read_text() == "mine"
    assert (tmp_path / "README.md").read_text() == "card" and not (tmp_path / "README.md").is_symlink()


def test_a_full_disk_leaves_the_former_file_and_is_named(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text("former")

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("urm_hf.data.outputs.os.fsync", full)
    with pytest.raises(OSError, match="No space left on device.*config.json"):
        write_file(tmp_path / "config.json", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == "former"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_no_json_are_never_written(tmp_path, number):
    path = tmp_path / "config.json"
    with pytest.raises(ValueError, match=r"config.json is not written: `rows\[1\].score` would be -?(nan|inf)"):
        write_json(path, {"rows": [{"score": 1.0}, {"score": number}]})
    assert not list(tmp_path.iterdir())
