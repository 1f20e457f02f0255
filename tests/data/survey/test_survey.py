"""What `urm data` finds in rows: figures that can be computed by hand, and a page that says them."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from tests.helpers.tiny import tiny_tokenizer
from urm_hf.cli import main
from urm_hf.data.survey.agreement import Agreement
from urm_hf.data.survey.numbers import NumberColumn
from urm_hf.data.survey.survey import Surveyor
from urm_hf.data.survey.text import _print_columns, _print_numbers, describe_repeats, describe_warnings


def surveyed(rows, **options):
    surveyor = Surveyor(**options)
    for row in rows:
        surveyor.add(row)
    return surveyor.finish()


def icc_by_analysis_of_variance(items):
    """ICC(1) of a balanced table, from its mean squares."""
    table = np.array(items, dtype=float)
    n, k = table.shape
    between = k * table.mean(1).var(ddof=1)
    within = table.var(1, ddof=1).mean()
    return (between - within) / (between + (k - 1) * within)


def test_agreement_of_balanced_ratings_is_the_intraclass_correlation():
    items = np.random.default_rng(0).integers(1, 6, (20, 3)).tolist()
    agreement = Agreement()
    for item in items:
        agreement.add(item)
    assert agreement.icc == pytest.approx(icc_by_analysis_of_variance(items), rel=1e-9)


@pytest.mark.parametrize(
    "items,icc",
    [
        ([[1, 1], [5, 5]], 1.0),
        ([[1, 5], [1, 5]], -1.0),
        ([[1], [2]], None),
        ([[3, 3]], None),
        ([[2, 2], [2, 2]], None),
    ],
)
def test_agreement_at_its_ends(items, icc):
    agreement = Agreement()
    for item in items:
        agreement.add(item)
    assert agreement.icc == (None if icc is None else pytest.approx(icc))


def test_numbers_that_can_hardly_be_ratings_are_told():
    column = NumberColumn()
    for value in (3, 2, -100, 4, float("nan"), None, [9, 1]):
        column.add(value, [0, 5])
    assert column.suspicions() == [
        "-100 occurs 1 times and may mean: not rated",
        "2 are outside the scale [0, 5]",
        "1 are NaN or infinite",
    ]
    assert (column.rows, column.missing, column.numbers) == (5, 2, 6)


def test_minus_one_is_a_rating_on_a_scale_that_goes_below_zero():
    column = NumberColumn()
    for value in (-2, -1, 0, 1):
        column.add(value)
    assert column.suspicions() == []


@pytest.mark.parametrize(
    ("ratings", "told"),
    [
        (
            [0, 1, 2, 3, 4] * 4 + [85, 70],
            "2 of 22 are above 8 and up to 85, where the others are whole numbers up to",
        ),
        ([1, 2, 3, 4, 5] * 4 + [100, 7, 90] * 4, "8 of 32 are above 14 and up to 100"),
        ([1, 2, 3, 4, 5] * 4 + [100, 65, 90], "3 of 23 are above 10 and up to 100"),
        (list(range(101)), None),
        ([0, 1, 2, 3, 4] * 4, None),
        ([0, 1, 2, 3, 4] * 4 + [6], None),
        ([0.5, 1.2, 3.3, 4.0] * 5 + [80], None),
        ([0, 1, 2, 3, 4] * 4 + [999], None),  # a mask, which has words of its own
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10] * 3, None),
    ],
)
def test_two_scales_in_one_column_are_told(ratings, told):
    column = NumberColumn()
    for rating in ratings:
        column.add(rating)
    found = [line for line in column.suspicions() if "another scale" in line]
    assert (told in found[0]) if told else found == []


def test_a_scale_that_is_declared_is_believed():
    column = NumberColumn()
    for rating in [0, 1, 2, 3, 4] * 4 + [85]:
        column.add(rating, scale=[0, 100])
    assert column.suspicions() == []


def test_an_answer_that_is_not_read_is_told():
    found = surveyed([{"prompt": f"{number}?", "answer": "Yes.", "help": number % 5} for number in range(3)])
    (told,) = describe_warnings(found)
    assert "column `answer` may be an answer, and is not read: rename it to `response`" in told
    beside = surveyed([{"prompt": "a?", "response": "b", "answer": "the reference"}, {"prompt": "a?"}])
    assert describe_warnings(beside) == []


def test_a_constant_column_is_told():
    column = NumberColumn()
    for _ in range(3):
        column.add(4)
    assert column.suspicions() == ["all are 4: there is nothing to learn from them"]


def test_numbers_beyond_all_floats_are_counted():
    column = NumberColumn()
    for value in (1e308, -1e308, 10**400, 1.5e154):
        column.add(value, ["a", None])
    assert (column.rows, column.missing, column.not_finite) == (3, 1, 1) and sum(column.histogram(2)) == 3


def test_histograms_count_all_values():
    column = NumberColumn()
    for value in range(1000):
        column.add(value)
    assert sum(column.histogram(8)) == 1000


def test_repeats_equal_pairs_and_splits_are_counted():
    rows = [
        {"prompt": "Q?", "chosen": "long answer", "rejected": "short", "split": "train"},
        {"prompt": "Q?", "chosen": "same", "rejected": "same", "split": "test"},
        {"prompt": "P?", "chosen": "<|im_start|>a", "rejected": "b", "split": "train"},
        {"prompt": "P?", "chosen": "", "rejected": "b", "split": "train"},
    ]
    found = surveyed(rows)
    assert (found.prompts, found.repeated_prompts, found.shared_prompts) == (2, 1, 1)
    assert found.splits == {"train": 3, "test": 1} and found.conversations == 6
    assert "in more than one split: 1 prompt" in describe_repeats(found)
    told = "\n".join(describe_warnings(found))
    assert "`chosen` and `rejected` are equal (row 1)" in told and "<|im_start|> stands in the text" in told
    [(problem, where)] = found.problems.items()
    assert "`chosen` is empty" in problem and where.rows == [3]


def test_half_of_a_character_is_told():
    found = surveyed([{"prompt": "Q?", "response": "abc\ud83d"}, {"prompt": "Q?", "response": "abc"}])
    [(told, where)] = found.problems.items()
    assert "half of a surrogate pair" in told and where.rows == [0]


def test_lengths_are_those_of_the_tokenizer():
    rows = [{"prompt": "Q?", "response": "A" * n} for n in (1, 10, 100)]
    found = surveyed(rows, tokenizer=tiny_tokenizer(), limit=60)
    plain = surveyed(rows)
    assert found.over_limit == 1 and found.quantile(1.0) - found.quantile(0.1) == 99
    assert plain.limit is None and sorted(plain.lengths) == [4, 13, 103]


def test_the_command_prints_what_is_there(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"instruction": "Name a river.", "output": "The [Po].", "generator": "x", "helpfulness": n} for n in (1, 4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not a row\n", encoding="utf-8")
    assert main(["data", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "3 rows, conversations" in printed and "alpaca-eval (github.com/tatsu-lab/alpaca_eval): 2 rows" in printed
    assert "assistant: The [Po]." in printed and "helpfulness" in printed and "line 3: not JSON" in printed
    assert main(["data", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["formats"] == {"alpaca-eval": 2} and found["columns"]["generator"]["read_as"] == "conversation"
    assert found["numbers"]["helpfulness"]["mean"] == 2.5


def test_a_file_of_which_nothing_can_be_read_is_an_error(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"foo": 1}\n{"foo": 2}\n', encoding="utf-8")
    assert main(["data", str(path)]) == 2
    printed = capsys.readouterr()
    assert "the columns foo are of no known format" in printed.out
    assert printed.err == f"urm data: error: {path}: none of its 2 rows can be read, as told above.\n"


@pytest.mark.parametrize(
    "options,told",
    [
        (["--format", "helpster2"], "unknown: did you mean"),
        (["--max-length", "5"], "name the --model"),
        (["--head", "-1"], "--head must be 0 or more"),
    ],
)
def test_wrong_options_are_told_in_one_line(tmp_path, capsys, options, told):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n', encoding="utf-8")
    assert main(["data", str(path), *options]) == 2
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1


@pytest.mark.parametrize("width", [48, 60, 80, 120])
def test_tables_keep_names_and_whole_numbers_in_narrow_terminals(width):
    surveyor = Surveyor(show=0)
    for number in range(1200):
        ratings = {"persuasiveness": [number % 5 + 0.125, 1234.5]}
        surveyor.add({"prompt": f"Why {number}?", "response": "Because " * 20, "ratings": ratings})
    out = io.StringIO()
    console = Console(file=out, width=width)
    _print_columns(console, surveyor.found)
    _print_numbers(console, surveyor.found)
    assert "…" not in out.getvalue() and max(map(len, out.getvalue().splitlines())) <= width
    assert all(word in out.getvalue() for word in ("response", "conversation", "persuasiveness", "618", "1234"))


@pytest.mark.parametrize(
    "row, form, told",
    [
        ({"prompt": "a?", "response": "b"}, "chat", "a chat, written by the model's chat template"),
        ({"prompt": "a?", "completion": "b"}, "text", "plain text, without a chat template"),
        ({"prompt": "a?", "chosen": "b", "rejected": "c"}, "text", "plain text, without a chat template"),
        ({"prompt": [{"role": "user", "content": "a?"}], "chosen": "b", "rejected": "c"}, "chat", "a chat, written"),
        ({"text": "a? b"}, "exact", "exactly the text"),
    ],
)
def test_what_conversations_are_read_as_is_told(tmp_path, capsys, row, form, told):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert main(["data", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "\nRead as\n" in printed and told in printed
    assert main(["data", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["read_as"] == {form: 2 if "chosen" in row else 1}


def test_ratings_of_a_csv_file_are_shown_as_ratings(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text("prompt,response,id,note,tone\na?,4,7,5,3\nb?,5,8,fine,1\n", encoding="utf-8")
    assert main(["data", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["numbers"]) == ["tone"] and found["numbers"]["tone"]["mean"] == 2.0
    roles = {name: column["read_as"] for name, column in found["columns"].items()}
    assert roles == dict.fromkeys(("prompt", "response"), "conversation") | {
        "id": "no",
        "note": "no",
        "tone": "ratings",
    }
    assert main(["data", str(path)]) == 0
    assert "--attributes tone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cells", "told"),
    [
        (["4", "5"], "`tone` holds numbers that are written as text, and is not taken for ratings"),
        (["4", "5", "4/5"], "`tone` holds numbers in 2 of 3 rows, but '4/5' in row 2"),
        ([4, "good"], "`tone` holds 'good' in row 1, which is not a number"),
        ([4, "", 5], None),
        (["in 1999", "no"], None),
    ],
)
def test_ratings_that_are_text_look_wrong(cells, told):
    rows = [{"prompt": "a?", "response": "b", "clarity": 3, "tone": cell} for cell in cells]
    lines = [line for line in describe_warnings(surveyed(rows)) if "tone" in line and "nothing to learn" not in line]
    assert not lines if told is None else told in lines[0]


def test_json_stays_json_whatever_characters_a_file_has(tmp_path, capsys):
    path, split = tmp_path / "rows.jsonl", "\x83\U000dcf4e\x1b[31m"
    path.write_text(json.dumps({"prompt": "a?", "response": "b", "split": split}) + "\n", encoding="utf-8")
    assert main(["data", str(path), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["splits"] == {split: 1} and printed.isascii()
