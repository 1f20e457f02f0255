"""Where `urm score` writes: CSV, standard output, and places that cannot be written."""

import csv
import json

import pytest

from tests.helpers.commands import ROWS, score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf.cli import main
from urm_hf.data.csv_output import flatten_row
from urm_hf.data.tables import load_rows, read_jsonl


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_with_tokenizer(tiny_urm(), tmp_path_factory.mktemp("model") / "urm")


@pytest.fixture
def expected(model, data, tmp_path) -> list[dict]:
    """The rows as JSON lines."""
    assert score(model, "--data", data, "--out", tmp_path / "expected.jsonl") == 0
    return list(read_jsonl(tmp_path / "expected.jsonl"))


def test_csv_has_every_number_of_the_json_lines(model, data, tmp_path, expected):
    assert score(model, "--data", data, "--out", tmp_path / "scores.csv", "--rows-per-part", 2) == 0
    with open(tmp_path / "scores.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(expected)
    for row, line in zip(rows, expected):
        assert float(row["reward"]) == close(line["reward"])
        means = {name: float(row[f"attribute_means.{name}"]) for name in line["attribute_means"]}
        assert means == close(line["attribute_means"])
        assert row["response"] == line["response"] and row["id"] == str(line["id"])
        assert json.loads(row["truncated"]) is line["truncated"]
    assert [row["response"] for row in load_rows(str(tmp_path / "scores.csv"))] == [row["response"] for row in ROWS]


def test_a_row_becomes_cells_that_can_be_read_back():
    row = {"id": 1, "text": 'a, "b"\nc', "none": None, "yes": True}
    row |= {"list": [1, {"a": "é"}], "means": {"x": 1.5, "y": [2]}}
    flat = flatten_row(row)
    assert list(flat) == ["id", "text", "none", "yes", "list", "means.x", "means.y"]
    assert (flat["text"], flat["none"], flat["yes"], flat["means.x"]) == (row["text"], None, "true", 1.5)
    assert json.loads(flat["list"]) == row["list"] and json.loads(flat["means.y"]) == [2]
    with pytest.raises(ValueError, match="two columns 'a.b'"):
        flatten_row({"a": {"b": 1}, "a.b": 2})


def test_standard_output_gets_json_lines_and_nothing_else(model, data, expected, capfd):
    capfd.readouterr()
    assert score(model, "--data", data, "--out", "-") == 0
    told = capfd.readouterr()
    assert [json.loads(line) for line in told.out.splitlines()] == expected
    assert "3 rows in, 3 scored" in told.err and "standard output" in told.err


def test_rows_that_are_left_out_are_told_beside_standard_output(model, tmp_path, capfd):
    data = write(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "Why?", "response": " "}])
    assert score(model, "--data", data, "--out", "-", "--on-error", "skip") == 0
    told = capfd.readouterr()
    assert len(told.out.splitlines()) == len(ROWS)
    (line,) = [line for line in told.err.splitlines() if line.startswith("skipped: ")]
    assert "empty" in json.loads(line.removeprefix("skipped: "))["reason"]


def test_several_processes_of_a_launcher_have_no_standard_output_to_share(model, data, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert score(model, "--data", data, "--out", "-") == 2
    assert "--out - is for one command" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["scores.csv", "scores.jsonl"])
def test_a_place_that_cannot_be_written_is_told_before_the_model_is_looked_for(out, data, capsys):
    assert score("/no/such/model", "--data", data, "--output_dir", f"/proc/nowhere/{out}") == 2
    told = capsys.readouterr().err
    assert "/proc cannot be written to" in told and "no/such/model" not in told


@pytest.mark.parametrize(
    "command",
    [
        ["train", "attributes", "--model", "/no/such/model", "--data", "DATA", "--out", "OUT"],
        ["train", "gating", "--model", "/no/such/model", "--data", "DATA", "--out", "OUT"],
        ["train", "reward", "--model", "/no/such/model", "--data", "DATA", "--out", "OUT"],
        ["evaluate", "/no/such/model", "--data", "DATA", "--out", "OUT"],
        ["posterior", "/no/such/model", "--data", "DATA", "--out", "OUT"],
        ["merge", "/no/such/model", "/no/such/other", "--out", "OUT"],
        ["demo", "--base", "/no/such/model", "--out", "OUT"],
    ],
    ids=lambda argv: " ".join(word for word in argv[:2] if word.isalpha()),
)
def test_no_command_works_long_for_a_place_that_it_cannot_write(command, data, capsys):
    argv = [{"DATA": str(data), "OUT": "/proc/nowhere"}.get(word, word) for word in command]
    assert main([*argv, "--report_to", "none"] if argv[0] == "train" else argv) == 2
    told = capsys.readouterr().err
    assert "/proc cannot be written to" in told and "no/such/model" not in told
