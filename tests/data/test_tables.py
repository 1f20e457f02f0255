"""Tables from files: every type of file gives the same rows, and what is wrong is named."""

import gzip
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from datasets import Dataset

from urm_hf.data.ratings import ratings_array, read_ratings
from urm_hf.data.tables import from_ultrafeedback, load_rows

ROWS = [
    {"prompt": "a?", "response": "It is ä.", "helpfulness": 3, "split": "train"},
    {"prompt": "b?", "response": "It\nis b.", "helpfulness": 1, "split": "validation"},
    {"prompt": "c?", "response": 'It is "c".', "helpfulness": 4, "split": "train"},
]
SUFFIXES = pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json", "json.gz", "csv", "parquet"])


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    """Whatever `datasets` keeps, it does not keep it in the cache of the user."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, suffix: str, rows: list[dict]) -> str:
    path = folder / f"rows.{suffix}"
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if suffix == "csv":
        Dataset.from_list(rows).to_csv(path)
    elif suffix == "parquet":
        Dataset.from_list(rows).to_parquet(path)
    elif suffix.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


def expected(suffix: str, rows: list[dict]) -> list[dict]:
    """The rows as a file of that type holds them: the cells of CSV are text."""
    return [{k: str(v) for k, v in row.items()} for row in rows] if suffix == "csv" else rows


@SUFFIXES
def test_every_type_of_file_gives_the_rows_in_order(tmp_path, suffix):
    assert load_rows(write(tmp_path, suffix, ROWS)).to_list() == expected(suffix, ROWS)


@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_json_array_holds_rows_too(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    text = json.dumps(ROWS, indent=4).encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith("gz") else text)
    assert load_rows(str(path)).to_list() == ROWS


@pytest.mark.parametrize(
    ("text", "message"), [('[{"prompt": "a"}, 3]', "row 1: expected an object, got int"), ('[{"a": 1}', "not JSON")]
)
def test_a_bad_json_array_is_named(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"rows.json.*{message}"):
        load_rows(str(path))


@SUFFIXES
def test_a_split_is_the_rows_with_that_value_in_the_column_split(tmp_path, suffix):
    assert load_rows(write(tmp_path, suffix, ROWS), "train").to_list() == expected(suffix, [ROWS[0], ROWS[2]])


@SUFFIXES
def test_a_missing_split_is_an_error_that_names_those_found(tmp_path, suffix):
    with pytest.raises(ValueError, match="no rows with split 'test'; it has train, validation"):
        load_rows(write(tmp_path, suffix, ROWS), "test")


@SUFFIXES
def test_the_split_train_of_a_file_without_splits_is_the_whole_file(tmp_path, suffix):
    rows = [{"text": "a"}, {"text": "b"}]
    assert load_rows(write(tmp_path, suffix, rows), "train").to_list() == rows


@SUFFIXES
def test_another_split_of_a_file_without_splits_is_an_error(tmp_path, suffix):
    with pytest.raises(ValueError, match="validation"):
        load_rows(write(tmp_path, suffix, [{"text": "a"}, {"text": "b"}]), "validation")


def test_blank_lines_are_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('\n{"text": "a"}\n\n  \n{"text": "b"}\n\n')
    assert load_rows(str(path))["text"] == ["a", "b"]


def test_a_column_that_the_first_row_lacks_is_kept(tmp_path):
    rows = load_rows(write(tmp_path, "jsonl", [{"text": "a"}, {"text": "b", "helpfulness": 3}]))
    assert rows.to_list() == [{"text": "a", "helpfulness": None}, {"text": "b", "helpfulness": 3}]


def test_messages_and_lists_of_ratings_are_kept(tmp_path):
    row = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "clarity": [1.0, 2.5],
    }
    assert load_rows(write(tmp_path, "jsonl", [row])).to_list() == [row]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize(
    "line, error", [("{'text': 1}", "line 3: not JSON"), ("[1, 2]", "line 3: expected an object, got list")]
)
def test_a_malformed_line_is_an_error_that_names_file_and_line(tmp_path, suffix, line, error):
    path = tmp_path / f"rows.{suffix}"
    text = f'{{"text": "a"}}\n\n{line}\n'.encode()
    path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
    with pytest.raises(ValueError, match=rf"rows\.{suffix}, {error}"):
        load_rows(str(path))


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "json"])
def test_a_file_without_rows_is_an_error_that_names_it(tmp_path, suffix):
    with pytest.raises(ValueError, match=rf"rows\.{suffix} holds no rows"):
        load_rows(write(tmp_path, suffix, []))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_without_rows_is_an_error_that_names_it(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    empty = Dataset.from_dict({"text": []}, features=datasets.Features({"text": datasets.Value("string")}))
    getattr(empty, f"to_{suffix}")(path)
    with pytest.raises(ValueError, match=rf"rows\.{suffix} holds no rows"):
        load_rows(str(path))


@pytest.mark.parametrize("name", ["rows.txt", "rows.xlsx", "rows"])
def test_an_unknown_type_of_file_is_an_error_that_lists_the_known_ones(tmp_path, name):
    (tmp_path / name).write_text("a")
    with pytest.raises(ValueError, match=rf"{name}: unknown type of file; expected one of \.jsonl, .*\.csv"):
        load_rows(str(tmp_path / name))


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.parquet", "/absent/rows", "some/long/path"])
def test_a_missing_file_is_an_error_that_names_it(name):
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        load_rows(name)


# Rows of several kinds


def test_a_rating_may_be_a_number_in_some_rows_and_a_list_in_others(tmp_path):
    rows = [{"text": "a", "clarity": 3}, {"text": "b", "clarity": [1, 2.5]}, {"text": "c", "clarity": None}]
    loaded = load_rows(write(tmp_path, "jsonl", rows))
    assert list(loaded) == rows
    assert [read_ratings(row, ["clarity"]) for row in loaded.select([0, 1])] == [[[3.0]], [[1.0, 2.5]]]


def test_objects_of_a_column_keep_their_own_keys(tmp_path):
    rows = [{"ratings": {"clarity": 3, "depth": 1}}, {"ratings": {"clarity": [1, 2]}}, {"ratings": {}}]
    assert list(load_rows(write(tmp_path, "jsonl", rows))) == rows


def test_a_column_may_hold_text_in_some_rows_and_messages_in_others(tmp_path):
    rows = [{"prompt": None}, {"prompt": "5"}, {"prompt": [{"role": "user", "content": "b"}]}]
    assert list(load_rows(write(tmp_path, "jsonl", rows))) == rows


def test_ultrafeedback_becomes_one_row_for_each_completion():
    completions = [
        {"response": "x", "annotations": {"honesty": {"Rating": "4"}, "truthfulness": {"Rating": "N/A"}}},
        {"response": "y", "annotations": {"honesty": {"Rating": "1"}, "truthfulness": None}},
    ]
    rows = from_ultrafeedback(Dataset.from_list([{"instruction": "a?", "completions": completions}])).to_list()
    assert rows == [
        {"prompt": "a?", "response": "x", "ratings": {"honesty": 4.0, "truthfulness": None}},
        {"prompt": "a?", "response": "y", "ratings": {"honesty": 1.0, "truthfulness": None}},
    ]


def published(response: str, helpfulness: str, honesty: str, following: str, truthfulness: str) -> dict:
    """A completion with every field of the published schema."""
    note = {"Rationale": "It says why."}
    typed = note | {"Rationale For Rating": "And why that many.", "Type": ["1", "3"]}
    return {
        "annotations": {
            "helpfulness": typed | {"Rating": helpfulness},
            "honesty": note | {"Rating": honesty},
            "instruction_following": note | {"Rating": following},
            "truthfulness": typed | {"Rating": truthfulness, "Type": ["None"]},
        },
        "critique": "Be shorter.",
        "custom_system_prompt": "You are helpful.",
        "fine-grained_score": 3.5,
        "model": "alpaca-7b",
        "overall_score": 7.0,
        "principle": "helpfulness",
        "response": response,
    }


def test_ultrafeedback_is_read_as_it_is_published(tmp_path, caplog):
    completions = [published("Paris.", "5", "4", "3", "2"), published(" ", "1", "1", "1", "1")]
    completions.append(published("Rome?", "1", "N/A", "N/A", "5"))
    row = {"source": "truthful_qa", "instruction": "Capital of France?", "models": ["alpaca-7b"] * 3}
    row |= {"completions": completions, "correct_answers": ["Paris"], "incorrect_answers": ["None"]}
    rows = from_ultrafeedback(load_rows(write(tmp_path, "parquet", [row, row | {"completions": []}])))
    names = ["helpfulness", "honesty", "instruction_following", "truthfulness"]
    assert [(row["prompt"], row["response"]) for row in rows] == [
        ("Capital of France?", "Paris."),
        ("Capital of France?", "Rome?"),
    ]
    read = [read_ratings(row, names, {name: [1, 5, 1] for name in names}) for row in rows]
    assert np.array_equal(ratings_array(read)[:, :, 0], [[5, 4, 3, 2], [1, np.nan, np.nan, 5]], equal_nan=True)
    assert caplog.messages == ["UltraFeedback: left out 1 of 3 completions, which are empty."]


@pytest.mark.parametrize(
    "completion",
    [
        {"response": "x"},
        {"response": "x", "annotations": {"honesty": {"Rating": "good"}}},
        {"response": "x", "annotations": {"honesty": {"Score": "4"}}},
        {"response": None, "annotations": {"honesty": {"Rating": "4"}}},
    ],
)
def test_a_row_of_another_form_than_ultrafeedback_s_is_an_error_that_names_it(completion):
    with pytest.raises(ValueError, match="row 0 is not of UltraFeedback's form"):
        from_ultrafeedback(Dataset.from_list([{"instruction": "a?", "completions": [completion]}]))
