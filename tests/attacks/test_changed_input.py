"""Input and parts that change while a job runs: never joined to one output."""

import shutil
from pathlib import Path

import pytest

from tests.helpers.judge_runs import ROWS as PAIRS
from tests.helpers.judge_runs import run as judge_run
from tests.helpers.score_runs import ROWS, error_of, interrupted, score, write
from urm_hf.scoring.jobs.job import PartScorer

SIZE = 10


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


def rewrite(data: Path):
    write(data, ROWS[::-1])


def truncate(data: Path):
    data.write_bytes(data.read_bytes()[:3000])


def append(data: Path):
    with open(data, "a") as file:
        file.write('{"prompt": "One", "response": "more."}\n')


def remove(data: Path):
    data.unlink()


def replace(data: Path):
    write(data.with_suffix(".new"), ROWS[::-1]).replace(data)


def change_during(monkeypatch, change, data: Path, after: int):
    """The input changes when so many parts have been worked on."""
    usual, worked = PartScorer.score_part, []

    def changing(self, number):
        if len(worked) == after:
            change(data)
        worked.append(number)
        usual(self, number)

    monkeypatch.setattr(PartScorer, "score_part", changing)


@pytest.mark.parametrize("change", [rewrite, truncate, append, remove, replace])
def test_a_change_is_told_and_what_was_scored_before_it_is_kept(saved_urm, data, tmp_path, capsys, change):
    out, whole, kept = tmp_path / "out.jsonl", tmp_path / "whole.jsonl", tmp_path / "kept.jsonl"
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)
    shutil.copy(data, kept)
    with pytest.MonkeyPatch.context() as patched:
        change_during(patched, change, data, after=3)
        assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 2
    assert "was changed, moved or removed while it was read" in error_of(capsys)
    assert not out.exists()
    assert len(list((tmp_path / "out.jsonl.parts").glob("*.rows"))) == 3
    shutil.copy(kept, data)
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_a_change_after_the_last_part_is_told_before_parts_are_joined(saved_urm, data, tmp_path, capsys):
    out, usual = tmp_path / "out.jsonl", PartScorer.run

    def change_in_the_end(self):
        usual(self)
        append(data)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PartScorer, "run", change_in_the_end)
        assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 2
    assert "was changed" in error_of(capsys) and not out.exists()


def test_a_file_that_is_only_touched_is_no_change(saved_urm, data, tmp_path):
    out = tmp_path / "out.jsonl"
    with pytest.MonkeyPatch.context() as patched:
        change_during(patched, lambda path: path.touch(), data, after=3)
        assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0


def test_pairs_that_change_while_they_are_judged(judge, tmp_path, capsys):
    data = write(tmp_path / "pairs.jsonl", PAIRS)
    judge.on_request = lambda number: write(data, PAIRS[:-1]) if number == 5 else None
    assert judge_run(judge, data) == 2
    assert "was changed" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "judged.jsonl").exists()


# Parts


def cut(folder: Path):
    path = folder / "part-000001.rows"
    path.write_bytes(path.read_bytes()[:-40])


def empty(folder: Path):
    (folder / "part-000001.rows").write_bytes(b"")


def swap(folder: Path):
    for kind in ("rows", "skipped", "counts"):
        one, other = folder / f"part-000000.{kind}", folder / f"part-000001.{kind}"
        one.rename(folder / "held")
        other.rename(one)
        (folder / "held").rename(other)


def lose_counts(folder: Path):
    (folder / "part-000002.counts").unlink()


def edit(folder: Path):
    path = folder / "part-000000.rows"
    path.write_bytes(path.read_bytes().replace(b'"reward": ', b'"reward":  ', 1))


@pytest.mark.parametrize("damage", [cut, empty, swap, lose_counts, edit])
def test_damaged_parts_are_scored_again_when_a_job_goes_on(saved_urm, data, tmp_path, monkeypatch, damage):
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)
    interrupted(saved_urm, data, out, monkeypatch)
    damage(tmp_path / "out.jsonl.parts")
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("damage", [cut, empty, swap, lose_counts, edit])
def test_damaged_parts_are_never_joined(saved_urm, data, tmp_path, capsys, damage):
    out, whole, usual = tmp_path / "out.jsonl", tmp_path / "whole.jsonl", PartScorer.run
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)

    def damage_in_the_end(self):
        usual(self)
        damage(self.folder.path)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(PartScorer, "run", damage_in_the_end)
        assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 2
    assert "are not what was written there" in error_of(capsys) and not out.exists()
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0
    assert out.read_bytes() == whole.read_bytes()


def test_parts_of_another_job_of_the_same_size_are_no_parts_of_this(saved_urm, data, tmp_path, monkeypatch):
    other = write(tmp_path / "other.jsonl", ROWS[::-1])
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)
    interrupted(saved_urm, data, out, monkeypatch)
    interrupted(saved_urm, other, tmp_path / "foreign.jsonl", monkeypatch)
    for path in (tmp_path / "foreign.jsonl.parts").glob("part-000001.*"):
        shutil.copy(path, tmp_path / "out.jsonl.parts" / path.name)
    assert score(saved_urm, "--data", data, "--out", out, "--rows-per-part", SIZE) == 0
    assert out.read_bytes() == whole.read_bytes()
