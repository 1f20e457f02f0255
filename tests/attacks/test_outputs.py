"""Outputs that would destroy something, or cannot be written: refused in one line before a model is looked for."""

import json
import os
from pathlib import Path

import pytest

from tests.helpers.score_runs import ROWS, write
from urm_hf.cli import main

NO_MODEL = "absent/model"  # whoever looks for it fails with another error
PAIRS = [{"prompt": "Question?", "chosen": "Yes.", "rejected": "No."}]
CANDIDATES = [{"prompt": "Question?", "candidates": ["Yes.", "No."]}]


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


def refuse(capsys, *argv) -> str:
    """What a command that refuses says; nothing that exists is changed by it."""
    assert main(list(map(str, argv))) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith(f"urm {argv[0]}: error: ")
    return lines[-1]


def list_contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): _content(path) for path in sorted(folder.rglob("*"))}


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def link(kind: str, data: Path, out: Path):
    if kind == "symbolic":
        out.symlink_to(data)
    elif kind == "hard":
        os.link(data, out)


@pytest.mark.parametrize("more", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("kind", ["itself", "symbolic", "hard"])
def test_an_input_is_never_an_output(data, tmp_path, capsys, kind, more):
    out = data if kind == "itself" else tmp_path / "out.jsonl"
    link(kind, data, out)
    before = list_contents(tmp_path)
    assert "is the input" in refuse(capsys, "score", NO_MODEL, "--data", data, "--out", out, *more)
    assert list_contents(tmp_path) == before


def test_the_side_file_is_no_input_either(tmp_path, capsys):
    data = write(tmp_path / "out.jsonl.skipped.jsonl", ROWS)
    argv = ["--data", data, "--out", tmp_path / "out.jsonl", "--on-error", "skip", "--overwrite"]
    assert "is the input" in refuse(capsys, "score", NO_MODEL, *argv)
    assert data.read_text().count("\n") == len(ROWS)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out.jsonl.gz"])
def test_existing_files_are_not_replaced_unasked(data, tmp_path, capsys, name):
    out = tmp_path / name
    out.write_text("mine")
    assert "exists" in refuse(capsys, "score", NO_MODEL, "--data", data, "--out", out)
    assert out.read_text() == "mine"
    # allowed to, it goes on to what is wrong next
    assert "exists" not in refuse(capsys, "score", NO_MODEL, "--data", data, "--out", out, "--overwrite")
    assert out.read_text() == "mine"


def test_a_side_file_of_another_origin_stays(saved_urm, data, tmp_path, capsys):
    side = tmp_path / "out.jsonl.skipped.jsonl"
    side.write_text("mine")
    out = tmp_path / "out.jsonl"
    assert "skipped.jsonl exists" in refuse(
        capsys, "score", NO_MODEL, "--data", data, "--out", out, "--on-error", "skip"
    )
    assert main(["score", saved_urm, "--data", str(data), "--out", str(out)]) == 0
    assert side.read_text() == "mine" and out.is_file()


def test_what_cannot_be_written_is_told(data, tmp_path, capsys):
    pipe = tmp_path / "pipe.jsonl"
    os.mkfifo(pipe)
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "broken.jsonl").symlink_to(tmp_path / "nowhere" / "x")
    (tmp_path / "taken.jsonl.parts").write_text("mine")
    told = {
        "folder.jsonl": "is a folder",
        "pipe.jsonl": "no regular file",
        "broken.jsonl": "no regular file",
        "taken.jsonl": "is a file, where a folder for parts",
        "rows.jsonl/out.jsonl": "is no folder",
        "rows.jsonl/absent/out.jsonl": "is no folder",
    }
    for name, expected in told.items():
        assert expected in refuse(capsys, "score", NO_MODEL, "--data", data, "--out", tmp_path / name)


def test_a_folder_that_only_looks_like_one_of_parts_is_not_removed(data, tmp_path, capsys):
    folder = tmp_path / "out.jsonl.parts"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    error = refuse(capsys, "score", NO_MODEL, "--data", data, "--out", tmp_path / "out.jsonl")
    assert "holds thesis.txt" in error and (folder / "thesis.txt").read_text() == "mine"


def test_a_full_disk_is_told_before_anything_is_scored(data, tmp_path, capsys, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("urm_hf.data.outputs.os.fsync", full)
    error = refuse(capsys, "score", NO_MODEL, "--data", data, "--out", tmp_path / "out.jsonl")
    assert "cannot be written to: No space left on device" in error


@pytest.mark.parametrize("name", ["judged.jsonl", "judged.summary.json"])
def test_verdicts_and_summaries_of_another_origin_stay(tmp_path, capsys, name):
    data = write(tmp_path / "pairs.jsonl", PAIRS)
    (tmp_path / name).write_text("mine")
    argv = ["judge", "m", "--base-url", "http://localhost:9/v1", "--data", data, "--out", tmp_path / "judged.jsonl"]
    assert f"{name} exists" in refuse(capsys, *argv)
    assert (tmp_path / name).read_text() == "mine"


def test_a_judge_does_not_write_on_what_it_reads(tmp_path, capsys):
    data = write(tmp_path / "pairs.jsonl", PAIRS)
    argv = ["judge", "m", "--base-url", "http://localhost:9/v1", "--data", data, "--out", data, "--overwrite"]
    assert "is the input" in refuse(capsys, *argv)
    assert json.loads(data.read_text()) == PAIRS[0]


@pytest.mark.parametrize("command, name", [("evaluate", "results.json"), ("bestofn", "chosen.jsonl")])
def test_folders_with_files_of_another_origin_are_refused(tmp_path, capsys, command, name):
    data = write(tmp_path / "rows.jsonl", PAIRS if command == "evaluate" else CANDIDATES)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("mine")
    error = refuse(capsys, command, NO_MODEL, "--data", data, "--out", folder)
    assert f"holds {name} of another origin" in error and (folder / name).read_text() == "mine"


def test_numbers_that_json_has_no_form_for_are_written_as_null(saved_urm, tmp_path):
    rows = [{"prompt": "A?", "response": "B.", "note": {"x": [1.5, "NAN"]}}]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row).replace('"NAN"', "NaN, -Infinity") + "\n" for row in rows))
    out = tmp_path / "out.jsonl"
    assert main(["score", saved_urm, "--data", str(data), "--out", str(out)]) == 0

    def refuse_constant(name):
        raise ValueError(name)

    row = json.loads(out.read_text(), parse_constant=refuse_constant)
    assert row["note"] == {"x": [1.5, None, None]}
