"""Rows of every kind of file, in parts of any order."""

import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from datasets import Dataset
from pyarrow import csv, parquet

from urm_hf.data.source import PartReader, Source
from urm_hf.data.tables import load_rows

ROWS = [{"id": number, "text": f"téxt {number}", "split": "ab"[number % 2]} for number in range(25)]


def write(path, rows=ROWS) -> str:
    table = pyarrow.Table.from_pylist(rows)
    if path.suffix == ".parquet":
        parquet.write_table(table, path, row_group_size=4)
    elif path.suffix == ".csv":
        csv.write_csv(table, path)
    else:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "wt", encoding="utf-8") as file:
            file.write("\n\n".join(json.dumps(row) for row in rows) + "\n")
    return str(path)


def written(file: str, rows=ROWS) -> list[dict]:
    """The rows as a file of that type holds them: the cells of CSV are text."""
    return [{k: str(v) for k, v in row.items()} for row in rows] if file.endswith(".csv") else rows


def read(source: Source) -> list[dict]:
    return [source.row(item) for item in source.items()]


@pytest.fixture(params=["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "rows.csv"])
def file(request, tmp_path) -> str:
    return write(tmp_path / request.param)


def test_rows_are_read_in_order_and_counted(file):
    source = Source(file)
    assert read(source) == written(file)
    assert source.count == 25


def test_rows_of_a_split_are_read(file):
    source = Source(file, split="b")
    assert read(source) == [row for row in written(file) if row["split"] == "b"]
    assert source.count == 12


def test_a_file_without_a_column_split_is_all_train(tmp_path):
    file = write(tmp_path / "rows.jsonl", [{"text": "a"}])
    assert Source(file, split="train").count == 1
    with pytest.raises(ValueError, match="holds no rows with split 'test'"):
        Source(file, split="test")


@pytest.mark.parametrize("order", [range(4), [3, 0, 2], [1, 1], [0, 3]])
def test_parts_are_read_in_any_order(file, order):
    source = Source(file)
    reader = PartReader(source, 7)
    for number in order:
        assert [source.row(item) for item in reader.part(number)] == written(file)[7 * number : 7 * number + 7]


def test_the_fingerprint_is_that_of_the_content(file, tmp_path):
    before = Source(file).fingerprint
    assert Source(write(tmp_path / "again.jsonl")).fingerprint == Source(write(tmp_path / "again2.jsonl")).fingerprint
    assert Source(file).fingerprint == before
    write(Path(file), [*ROWS[:-1], ROWS[-1] | {"text": "other"}])
    assert Source(file).fingerprint != before


def test_a_dataset_of_the_hub_is_read_with_its_split_and_revision(monkeypatch):
    asked = []

    def load(name, config, split, revision):
        asked.append((name, config, split, revision))
        return Dataset.from_list(ROWS)

    monkeypatch.setattr("urm_hf.data.source.load_dataset", load)
    source = Source("org/data", "test", "small", "abc")
    assert (asked, read(source), source.count) == ([("org/data", "small", "test", "abc")], ROWS, 25)
    assert Source("org/data").fingerprint == source.fingerprint


def test_a_line_that_is_no_row_is_told_at_once_or_when_it_is_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"text": "a"}\n\n[1]\n{"text": \n"\xff"\n')
    with pytest.raises(ValueError, match=r"rows.jsonl, line 3: expected an object, got list"):
        Source(str(path), strict=True)
    source = Source(str(path))
    assert source.count == 4
    errors = []
    for item in list(source.items())[1:]:
        with pytest.raises(ValueError) as error:
            source.row(item)
        errors.append(str(error.value).split(": ")[0].split(", ")[-1])
    assert errors == ["line 3", "line 4", "line 5"]


@pytest.mark.parametrize("name", ["absent.jsonl", "/absent/rows", "a/b/c"])
def test_a_file_that_is_not_there_is_told(name):
    with pytest.raises(FileNotFoundError, match="no such file"):
        Source(name)


def test_a_file_of_another_type_is_told(tmp_path):
    (tmp_path / "rows.txt").write_text("a")
    with pytest.raises(ValueError, match="unknown type of file; expected one of .jsonl"):
        Source(str(tmp_path / "rows.txt"))


def test_no_rows_are_told(tmp_path):
    (tmp_path / "rows.jsonl").write_text("\n\n")
    with pytest.raises(ValueError, match="rows.jsonl holds no rows"):
        Source(str(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("rows.jsonl", b'{"text": "a", "text": "b"}', "names 'text' twice"),
        ("rows.json", b'[{"text": "a", "meta": {"k": 1, "k": 2}}]', "names 'k' twice"),
        ("rows.jsonl", b'[{"text": "a"}, {"text": "b"}]', "line 1: expected an object, got list.*ends in .json"),
        ("rows.jsonl", b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "line 1: a number of more than 4300 digits"),
        ("rows.json", b'[{"text": "a", "n": ' + b"9" * 5000 + b"}]", "a number of more than 4300 digits"),
        (
            "rows.jsonl",
            b'{"text": "a", "\\ud800": 1}',
            r"line 1: the column '\\ud800' has a name that no table can hold",
        ),
        ("rows.json", b'[{"text": "a", "b\\u0000c": 1}]', "row 0: the column .* no table can hold"),
        ("rows.csv", b"text,id\ra,1\rb,2\r", r"carriage returns alone.*tr '\\r' '\\n' <"),
        ("rows.tsv", b"text,id\na,1\n", "no tab, but commas.*name it .csv"),
        ("rows.csv", b"text;id\na;1\n", "no comma, but semicolons.*with commas"),
    ],
)
def test_what_is_no_row_is_told_with_what_to_do(tmp_path, file, content, told):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=told) as raised:
        read(Source(str(tmp_path / file)))
    assert str(tmp_path / file) in str(raised.value)


def test_a_name_without_file_is_told_as_such_where_the_hub_cannot_be_asked(monkeypatch):
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="^local/name: no such file here, and the Hub cannot be asked"):
        Source("local/name")


@pytest.mark.parametrize("name", ["\ud800", "a\0b"])
def test_objects_keep_names_that_arrow_has_no_bytes_for(tmp_path, name):
    rows = [{"text": "a", "meta": {name: 1}}, {"text": "b", "meta": {name: 2}}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert list(load_rows(str(tmp_path / "rows.jsonl"))) == rows
