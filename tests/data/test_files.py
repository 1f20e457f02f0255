"""Files of every kind: what was written is what is read, and what is damaged is told in one line."""

import csv
import gzip
import io
import json

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from urm_hf.cli import main
from urm_hf.data.column_types import build_table, column_types
from urm_hf.data.errors import RowError
from urm_hf.data.files import local_file
from urm_hf.data.json_column import dataset_of
from urm_hf.data.source import Source, read_items, row_of
from urm_hf.data.tables import load_rows

ROW = {"prompt": "Why?", "response": "Because.", "id": "00501"}
LINE = json.dumps(ROW).encode() + b"\n"
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=8
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "ü"]), VALUES, min_size=1), min_size=1, max_size=6)
CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)
FILES = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY_FILES = settings(FILES, max_examples=2000)
KINDS = pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "json", "json.gz", "array.json", "array.json.gz"])


def dump(rows: list[dict], kind: str, indent: int | None = None) -> bytes:
    if kind.startswith("array"):
        content = json.dumps(rows, indent=indent).encode()
    else:
        content = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return gzip.compress(content) if kind.endswith("gz") else content


def check_round_trip(folder, kind: str, rows: list[dict]):
    path = folder / f"rows.{kind}"
    path.write_bytes(dump(rows, kind, indent=len(rows) % 3))
    source = Source(str(path))
    assert source.count == len(rows)
    assert repr(list(source.rows())) == repr(rows)  # by repr: 1, 1.0 and True are equal, keys have no order


@KINDS
@FILES
@given(rows=ROWS)
def test_rows_of_json_are_read_as_they_were_written(tmp_path, kind, rows):
    check_round_trip(tmp_path, kind, rows)


@pytest.mark.slow
@KINDS
@MANY_FILES
@given(rows=ROWS)
def test_many_rows_of_json_are_read_as_they_were_written(tmp_path, kind, rows):
    check_round_trip(tmp_path, kind, rows)


@FILES
@given(rows=ROWS)
def test_a_table_gives_back_the_rows_with_null_where_they_lack_a_column(rows):
    names = list(dict.fromkeys(name for row in rows for name in row))
    read = list(dataset_of(build_table(rows, column_types(rows))))
    assert read == [{name: row.get(name) for name in names} for row in rows]


@pytest.mark.parametrize("depth", [1, 32, 33, 150])
def test_what_is_deeper_than_parquet_can_be_read_again_is_kept_as_text(tmp_path, depth):
    value = "deep"
    for _ in range(depth):
        value = [value]
    rows = [{"a": value}, {"a": value}]
    pyarrow.parquet.write_table(build_table(rows, column_types(rows)), tmp_path / "rows.parquet")
    assert list(read_items(tmp_path / "rows.parquet")) == rows


@FILES
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), delimiter=st.sampled_from([",", "\t"]))
def test_cells_of_csv_are_the_text_that_was_written(tmp_path, rows, delimiter):
    path = tmp_path / f"rows.{'csv' if delimiter == ',' else 'tsv'}"
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("a", "b"), *rows])
    path.write_bytes(text.getvalue().encode())
    assert list(read_items(path)) == [{"a": a, "b": b} for a, b in rows]


def test_csv_over_a_megabyte_with_line_breaks_in_cells_and_a_long_cell(tmp_path):
    rows = [[f"{number:05}", f'line one\nline {number}, "two"\r\n' * 20] for number in range(4000)]
    rows.append(["true", "x" * 300_000])
    path = tmp_path / "rows.csv"
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "text"], *rows])
    assert path.stat().st_size > 2 << 20
    assert [list(row.values()) for row in read_items(path)] == rows
    assert load_rows(str(path))[4000] == {"id": "true", "text": "x" * 300_000}


def test_an_array_much_longer_than_what_is_read_at_once(tmp_path):
    rows = [{"id": number, "text": f'tëxt [{{,\n"{number}' * (number % 50)} for number in range(3000)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), encoding="utf-8")
    assert list(read_items(path)) == rows


UTF16 = json.dumps(ROW).encode("utf-16")
DAMAGED = [
    ("rows.jsonl.gz", gzip.compress(LINE * 900)[:60], "cut short after line"),
    ("rows.jsonl.gz", LINE, "not compressed with gzip"),
    ("rows.jsonl", gzip.compress(LINE), "compressed with gzip: give it a name that ends in .gz"),
    ("rows.parquet", LINE, "no Parquet file"),
    ("rows.parquet", b"PAR1" + b"x" * 99 + b"PAR1", "no Parquet file"),
    ("rows.parquet", b"", "no Parquet file"),
    ("rows.jsonl", b"", "holds no rows"),
    ("rows.csv", b"prompt,response\n", "holds no rows"),
    ("rows.jsonl", UTF16, "UTF-16.*iconv"),
    ("rows.csv", "prompt,response\na,b\n".encode("utf-16"), "UTF-16.*iconv"),
    ("rows.jsonl", LINE + '{"text": "é"}'.encode("latin-1"), "line 2: not UTF-8 .byte 0xe9 at column 11.*iconv"),
    ("rows.csv", "text\né\n".encode("latin-1"), "line 2: not UTF-8"),
    ("rows.jsonl", LINE + b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}", "line 2: nested deeper than 200 levels"),
    ("rows.json", b'[{"a": ' + b"[" * 300 + b"]" * 300 + b"}]", "row 0: nested deeper than 200 levels"),
    ("rows.json", json.dumps({"data": [ROW]}, indent=1).encode(), "an object over several lines .with data.*jq"),
    ("rows.json", json.dumps([ROW, ROW]).encode()[:-1], "the array is cut short"),
    ("rows.json", json.dumps([ROW, ROW]).encode()[:-20], "row 1 .line 1.: not JSON .*the array is cut short"),
    ("rows.json", b'[{"a": 1} {"a": 2}]', "expected ']', found '{'"),
    ("rows.json", b'[{"a": 1}] 3', "text after the array"),
    ("rows.csv", b"prompt,response\na,b\nc,d,e\n", "line 3: 3 cells in row 1, but the header has 2"),
    ("rows.csv", b'prompt,response\na,"b\nc,d\n', "line 2: .* not CSV"),
    ("rows.csv", b"prompt;response\na;b\n", "semicolons"),
    ("rows.csv", b"prompt,prompt\na,b\n", "column 'prompt' twice"),
    ("rows.jsonl", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
]


@pytest.mark.parametrize("name, content, message", DAMAGED, ids=[f"{d[0]}-{d[2][:20]}" for d in DAMAGED])
def test_damage_is_told_with_file_place_and_remedy(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_rows(str(tmp_path / name))
    assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    for name, content in (("rows.jsonl", LINE), ("rows.json", b"[" + LINE + b"]"), ("rows.csv", b"id\n00501\n")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + content)
        assert next(read_items(tmp_path / name)) is not None
        assert list(load_rows(str(tmp_path / name)))[0]["id"] == "00501"


def test_an_error_of_a_row_carries_file_row_and_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(LINE + b"\n" + b"3\n")
    with pytest.raises(RowError) as error:
        [row_of(item, path) for item in read_items(path)]
    assert (error.value.file, error.value.row, error.value.line) == (str(path), 1, 3)


def test_what_is_no_file_is_told_as_what_it_is(tmp_path):
    (tmp_path / "train.jsonl").write_bytes(LINE)
    (tmp_path / "link.jsonl").symlink_to("nowhere")
    with pytest.raises(ValueError, match=rf"a folder, not a file. Name a file in it, such as {tmp_path}/train.jsonl"):
        local_file(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"link.jsonl: a link to nowhere"):
        local_file(str(tmp_path / "link.jsonl"))
    with pytest.raises(FileNotFoundError, match="is a file, not a folder"):
        local_file(str(tmp_path / "train.jsonl" / "rows.jsonl"))
    with pytest.raises(ValueError, match="not a regular file"):
        local_file("/dev/null")


@pytest.mark.parametrize("name", ["squad", "org/data", "Skywork/Skywork-Reward-Preference-80K-v0.1"])
def test_names_of_the_hub_may_have_dots(name):
    assert local_file(name) is None


COMMANDS = {
    "score": lambda path, out: ["score", f"{out}/absent", "--data", path, "--out", f"{out}.jsonl"],
    "evaluate": lambda path, out: ["evaluate", path, "--data", path, "--out", out],
    "bestofn": lambda path, out: ["bestofn", path, "--data", path, "--out", out],
}


@pytest.mark.parametrize("command", COMMANDS)
@FILES
@given(
    content=st.binary(max_size=200) | st.binary(max_size=8).map(lambda noise: LINE[:9] + noise + LINE),
    kind=st.sampled_from(["jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet"]),
)
def test_any_bytes_give_one_line_and_no_traceback(tmp_path, capsys, command, content, kind):
    path = tmp_path / f"rows.{kind}"
    path.write_bytes(content)
    assert main(COMMANDS[command](str(path), str(tmp_path / "out"))) == 2
    assert f"urm {command}: error: " in capsys.readouterr().err
