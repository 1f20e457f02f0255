"""`urm cache`, and where the cache is."""

import os
import time
from pathlib import Path

import pytest

from urm_hf.cli import main
from urm_hf.data.cache_folder import default_cache_dir


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Hidden states of two backbones, one of them not used for 40 days, and a record of a finished job."""
    monkeypatch.setenv("URM_CACHE", str(tmp_path))
    for name, size, days in (("aaa-float32", 3000, 40), ("bbb-float32", 100, 0)):
        folder = tmp_path / "features" / name
        folder.mkdir(parents=True)
        (folder / "1.features.npy").write_bytes(bytes(size))
        then = time.time() - days * 86400
        os.utime(folder / "1.features.npy", (then, then))
        os.utime(folder, (then, then))
    (tmp_path / "finished").mkdir()
    (tmp_path / "finished" / "x.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    return tmp_path


def test_what_is_there_is_listed_and_stays(cache, capsys):
    assert main(["cache"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "features/aaa-float32" in lines[0] and "2.9 KiB" in lines[0] and "40.0 days" in lines[0]
    assert "features/bbb-float32" in lines[1] and "finished" in lines[2]
    assert "3.0 KiB" in lines[3] and str(cache) in lines[3]
    assert (cache / "features" / "aaa-float32").is_dir()


def test_what_was_not_used_for_long_is_removed_and_nothing_else(cache, capsys):
    assert main(["cache", "--clean", "--older-than", "30"]) == 0
    assert [path.name for path in (cache / "features").iterdir()] == ["bbb-float32"]
    assert main(["cache", "--clean"]) == 0
    assert sorted(path.name for path in cache.rglob("*")) == ["features", "notes.txt"]
    capsys.readouterr()
    assert main(["cache"]) == 0
    assert "is empty" in capsys.readouterr().out
    assert main(["cache", "--older-than", "-1"]) == 2


@pytest.mark.parametrize("clean", [[], ["--clean"]])
def test_a_cache_in_which_nothing_is_old_is_not_called_empty(cache, capsys, clean):
    before = sorted(cache.rglob("*"))
    assert main(["cache", "--older-than", "50", *clean]) == 0
    told = capsys.readouterr().out
    assert told == f"3.0 KiB in {cache} were used in the last 50 days: nothing is older.\n"
    assert sorted(cache.rglob("*")) == before


def test_the_line_that_removes_what_is_listed_is_told(cache, capsys):
    assert main(["cache", "--older-than", "30"]) == 0
    assert "`urm cache --clean --older-than 30` removes it" in capsys.readouterr().out


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({}, "HOME/.cache/urm-hf"),
        ({"HF_HOME": "/data/hf"}, "/data/hf/urm-hf"),
        ({"HF_HOME": "/data/hf", "URM_CACHE": "/fast"}, "/fast"),
    ],
    ids=["home", "HF_HOME", "URM_CACHE"],
)
def test_the_cache_follows_hf_home(monkeypatch, tmp_path, variables, expected):
    for name in ("URM_CACHE", "HF_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache_dir() == Path(expected.replace("HOME", str(tmp_path)))
