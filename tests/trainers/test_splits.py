"""Training rows from files of which some lines hold no row."""

import json

import pytest

from urm_hf.data.row_numbers import numbers_of
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


def test_rows_keep_the_numbers_of_the_file(tmp_path):
    """Whatever is left out before them, drawn of them or made of them."""
    votes = [
        {"prompt": f"q{n}", "response_a": f"first {n}", "response_b": f"second {n}", "preferred": preferred}
        for n, preferred in enumerate(["a", "tie", "b", "a", "b", "a"])
    ]
    lines = [json.dumps(vote).encode() for vote in votes]
    (tmp_path / "votes.jsonl").write_bytes(b"\n".join([b"{damaged", *lines]))  # q0 is row 1 of the file
    data = DataArguments(str(tmp_path / "votes.jsonl"), eval_rows_held_out=2, max_train_rows=2)
    train, held_out = load_splits(data, seed=1, skipped_to=str(tmp_path / "run"))
    for dataset in (train, held_out):
        assert len(dataset) == 2
        questions = [prompt[0]["content"] for prompt in dataset["prompt"]]
        assert [f"q{number - 1}" for number in numbers_of(dataset)] == questions


@pytest.mark.parametrize("rated", [["help"], None])
def test_rows_of_one_prompt_are_held_out_together(tmp_path, rated, caplog):
    rows = [{"prompt": f"q{n % 10}", "response": f"a{n}", "help": n} for n in range(60)]
    if rated is None:
        rows = [{"prompt": f"q{n % 10}", "chosen": f"a{n}", "rejected": f"b{n}"} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(str(tmp_path / "rows.jsonl"), eval_rows_held_out=8)
    train, held_out = load_splits(data, seed=0, rated=rated)
    prompts = [{json.dumps(row["prompt"]) for row in part} for part in (train, held_out)]
    assert len(held_out) == 12 and len(train) == 48 and not prompts[0] & prompts[1]
    assert "Held out are 12 rows, whole prompts, and not 8." in caplog.text
    with pytest.raises(ValueError, match="`eval_rows_held_out` is 55 of 60 rows, which are of 10 prompts"):
        load_splits(DataArguments(data.dataset_name, eval_rows_held_out=55), seed=0, rated=rated)


@pytest.mark.parametrize("prompts", [1, 60])
def test_rows_of_one_prompt_or_of_as_many_as_rows_are_drawn_one_by_one(tmp_path, prompts):
    rows = [{"prompt": f"q{n % prompts}", "response": f"a{n}", "help": n} for n in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(str(tmp_path / "rows.jsonl"), eval_rows_held_out=8)
    train, held_out = load_splits(data, seed=3, rated=["help"])
    expected = load_splits(DataArguments(data.dataset_name), seed=3, rated=["help"])[0]
    expected = expected.train_test_split(test_size=8, seed=0)
    assert held_out["help"] == expected["test"]["help"] and train["help"] == expected["train"]["help"]


def test_answers_of_one_row_share_its_number(tmp_path):
    rows = [
        {"prompt": f"q{n}", "candidates": [{"response": f"a{n}{k}", "ratings": {"help": k}} for k in range(2)]}
        for n in range(3)
    ]
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train, _ = load_splits(DataArguments(str(tmp_path / "rated.jsonl")), seed=0, rated=["help"])
    assert list(numbers_of(train)) == [0, 0, 1, 1, 2, 2]


def test_any_row_of_a_file_may_be_of_another_format(tmp_path):
    first = {"prompt": "q0", "chosen": "good", "rejected": "bad"}
    vote = {"prompt": "q1", "response_a": "worse", "response_b": "better", "preferred": "b"}
    tie = vote | {"prompt": "q2", "preferred": "tie"}
    (tmp_path / "mixed.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (first, vote, tie, first)))
    train, _ = load_splits(DataArguments(str(tmp_path / "mixed.jsonl")), seed=0)
    assert list(numbers_of(train)) == [0, 1, 3]
    assert (train[1]["chosen"], train[1]["rejected"]) == ("better", "worse")


@pytest.mark.parametrize(
    ("count", "told"),
    [
        ({"max_train_rows": 0}, "`max_train_rows` must be positive, got 0"),
        ({"max_train_rows": -3}, "`max_train_rows` must be positive, got -3"),
        ({"max_eval_rows": 0}, "`max_eval_rows` must be positive, got 0"),
        ({"eval_rows_held_out": -5}, "`eval_rows_held_out` must not be negative, got -5"),
    ],
)
def test_a_number_of_rows_that_means_nothing_is_refused(file, count, told):
    with pytest.raises(ValueError, match=told):
        DataArguments(file, **count)


def test_ratings_that_cannot_be_read_are_not_told_as_missing(tmp_path):
    """By number, with all other rows that cannot be used, where they are encoded."""
    good = {"prompt": "a", "response": "b", "ratings": [1, 2]}
    rows = [good, good | {"ratings": [1, 2, 3]}, good | {"ratings": [None, None]}]
    (tmp_path / "rated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataArguments(str(tmp_path / "rated.jsonl"), skip_unrated=True)
    train, _ = load_splits(data, seed=0, rated=["help", "depth"])
    assert list(numbers_of(train)) == [0, 1]
