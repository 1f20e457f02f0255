"""Training rows from files of which some lines hold no row."""

import json

import pytest

from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.splits import load_splits

GOOD = [json.dumps({"prompt": f"q{n}", "chosen": "a b", "rejected": "c"}).encode() for n in range(3)]
LINES = [GOOD[0], b'{"prompt": "caf\xe9", "chosen": "a", "rejected": "b"}', GOOD[1], b"[" * 300 + b"]" * 300, GOOD[2]]


@pytest.fixture
def file(tmp_path) -> str:
    (tmp_path / "pairs.jsonl").write_bytes(b"\n".join(LINES) + b"\n")
    return str(tmp_path / "pairs.jsonl")


def test_lines_that_hold_no_row_are_an_error_by_default(file):
    with pytest.raises(ValueError, match="pairs.jsonl, line 2: not UTF-8"):
        load_splits(DataArguments(file), seed=0)


def test_lines_that_hold_no_row_are_left_out_and_told(file, tmp_path, caplog):
    folder = tmp_path / "run"
    train, held_out = load_splits(DataArguments(file), seed=0, skipped_to=str(folder))
    assert [row["prompt"] for row in train] == ["q0", "q1", "q2"] and held_out is None
    told = [json.loads(line) for line in (folder / "train.unreadable.jsonl").read_text().splitlines()]
    assert [one["row"] for one in told] == [1, 3]
    assert "line 2: not UTF-8" in told[0]["reason"] and "line 4: nested deeper" in told[1]["reason"]
    assert "lines that hold no row were left out: 2." in caplog.text


def test_lines_that_are_held_out_are_told_apart(file, tmp_path):
    data = DataArguments(file, eval_dataset_name=file)
    _, held_out = load_splits(data, seed=0, skipped_to=str(tmp_path))
    assert held_out is not None and len(held_out) == 3
    assert (tmp_path / "eval.unreadable.jsonl").read_text() == (tmp_path / "train.unreadable.jsonl").read_text()


def test_a_file_without_any_row_is_an_error(tmp_path):
    (tmp_path / "pairs.jsonl").write_bytes(LINES[1] + b"\n")
    with pytest.raises(ValueError, match="line 1: not UTF-8"):
        load_splits(DataArguments(str(tmp_path / "pairs.jsonl")), seed=0, skipped_to=str(tmp_path))
