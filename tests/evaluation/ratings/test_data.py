"""Rows with ratings in their several forms, and attributes that do or do not agree with a model's."""

import gzip
import json

import numpy as np
import pytest

from urm_hf.data.tables import load_rows
from urm_hf.evaluation.data import DataOptions, load_data
from urm_hf.evaluation.ratings.data import matched, rating_set

USER = [{"role": "user", "content": "Define entropy."}]
SCALE = {"fluency": [1, 5], "depth": [0, 100]}
ROWS = [
    {"prompt": USER, "response": "Disorder.", "ratings": {"fluency": [4, 5, 4], "depth": [10]}, "scale": SCALE},
    {"prompt": USER, "response": "Heat.", "ratings": {"fluency": [2], "depth": None}, "scale": SCALE},
    {"prompt": "Define work.", "response": "Force.", "ratings": {"fluency": 3, "depth": [40, 60]}, "scale": SCALE},
]


def changed(number: int, **columns) -> list[dict]:
    return [row | columns if i == number else row for i, row in enumerate(ROWS)]


def test_ratings_are_padded_and_conversations_hold_nothing_else():
    data = rating_set(ROWS, "made up")
    nan = float("nan")
    assert data.attributes == ["fluency", "depth"] and data.scales == SCALE and data.skipped == {}
    expected = [[[4, 5, 4], [10, nan, nan]], [[2, nan, nan], [nan] * 3], [[3, nan, nan], [40, 60, nan]]]
    assert np.array_equal(data.ratings, expected, equal_nan=True) and data.ratings.dtype == np.float64
    assert data.conversations[0].as_row() == {"messages": [*USER, {"role": "assistant", "content": "Disorder."}]}


def test_rows_that_answer_the_same_prompt_share_a_key():
    first, second, third = rating_set(ROWS, "made up").prompts
    assert first == second != third


def test_messages_share_the_key_of_what_they_answer_and_texts_stand_alone():
    answers = [[*USER, {"role": "assistant", "content": text}] for text in ("Disorder.", "Heat.")]
    rows = [{"messages": messages, "fluency": 3} for messages in answers] + [{"text": "a", "fluency": 1}] * 2
    data = rating_set(rows, "made up", attributes=["fluency"])
    assert data.prompts[0] == data.prompts[1] == rating_set(ROWS, "made up").prompts[0]
    assert len(set(data.prompts)) == 3


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "ratings.jsonl.gz"
    with gzip.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in (ROWS[0], ROWS[1]))
    data = rating_set(load_rows(str(path)), "file")
    expected = rating_set(ROWS[:2], "file")
    assert np.array_equal(data.ratings, expected.ratings, equal_nan=True)
    assert (data.prompts, data.scales, data.conversations) == (expected.prompts, SCALE, expected.conversations)


def test_columns_outside_of_ratings_are_named():
    rows = [{"prompt": "a", "response": "b", "quality": 3}]
    assert rating_set(rows, "flat", attributes=["quality"]).ratings.tolist() == [[[3.0]]]
    with pytest.raises(ValueError, match="flat has no column `ratings`.*quality. Of numbers are quality"):
        rating_set(rows, "flat")


def test_rows_of_helpsteer2_are_ratings_by_their_columns(tmp_path):
    names = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    rows = [{"prompt": f"Say {n}.", "response": "Yes."} | dict.fromkeys(names, n) for n in range(3)]
    path = tmp_path / "helpsteer2.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    data = load_data(str(path), DataOptions()).content
    assert (data.kind, data.attributes) == ("ratings", names)
    assert data.ratings.tolist() == [[[float(n)]] * 5 for n in range(3)]


def test_rows_without_a_rating_are_an_error_or_counted():
    rows = changed(1, ratings={"fluency": [], "depth": None})
    with pytest.raises(ValueError, match="made up, row 1: no rating at all"):
        rating_set(rows, "made up")
    data = rating_set(rows, "made up", skip_unrated=True)
    assert data.skipped == {"no rating": 1} and len(data.conversations) == len(data.prompts) == 2


@pytest.mark.parametrize(
    "number, columns, told",
    [
        (2, {"ratings": {"fluency": [3, 6]}}, "row 2: column `fluency` has the rating 6, outside its scale"),
        (1, {"ratings": {"fluency": ["good"]}}, "row 1: column `fluency` has 'good'"),
        (1, {"scale": {"fluency": [0, 5]}}, r"row 1: fluency has the scale \[0, 5\], and \[1, 5\] in an earlier row"),
        (0, {"scale": {"fluency": [5, 1]}}, r"row 0: the scale of fluency must be \[min, max\], got \[5, 1\]"),
        (0, {"scale": [1, 5]}, "row 0: `scale` must map attributes"),
        (1, {"response": None}, "row 1: the row has the columns"),
    ],
)
def test_bad_rows_are_named(number, columns, told):
    with pytest.raises(ValueError, match=told):
        rating_set(changed(number, **columns), "made up")


def test_an_attribute_that_nobody_rated_and_no_rows_are_named():
    with pytest.raises(ValueError, match="made up has no rating of depth in any row"):
        rating_set([{"prompt": "a", "response": "b", "ratings": {"fluency": [1], "depth": []}}], "made up")
    with pytest.raises(ValueError, match="made up holds no rows"):
        rating_set([], "made up")
    with pytest.raises(ValueError, match="none of its 1 rows has a rating"):
        rating_set([{"prompt": "a", "response": "b", "fluency": None}], "x", attributes=["fluency"], skip_unrated=True)


def test_attributes_agree_in_any_order_or_by_a_mapping():
    data = rating_set(ROWS, "made up")
    assert matched(data, ["depth", "fluency"]) == {"fluency": "fluency", "depth": "depth"}
    assert matched(data, ["style", "insight", "tone"], {"insight": "depth"}) == {"depth": "insight"}


@pytest.mark.parametrize(
    "attributes, mapping, told",
    [
        (["fluency"], None, "model has the attributes fluency; made up has fluency, depth"),
        (["style", "depth"], None, r"model has the attributes style, depth; made up has fluency, depth.*Say which"),
        (["style"], {"style": "tone"}, "names tone"),
        (["style"], {"grace": "fluency"}, "names grace"),
        (["style"], {}, "names nothing"),
        (["style", "grace"], {"style": "depth", "grace": "depth"}, "judges two attributes"),
    ],
)
def test_attributes_that_do_not_agree_are_named(attributes, mapping, told):
    with pytest.raises(ValueError, match=told):
        matched(rating_set(ROWS, "made up"), attributes, mapping)


def rated(*values) -> list[dict]:
    return [{"prompt": f"a{n}", "response": "b", "helpfulness": value} for n, value in enumerate(values)]


def test_values_that_say_not_rated_are_no_ratings():
    rows = rated(3, 2, -100, 4, -100)
    with pytest.raises(ValueError, match=r"^x, row 2: column `helpfulness` has the rating -100.*`scale`"):
        rating_set(rows, "x")
    data = rating_set(rows, "x", skip_unrated=True)
    assert data.ratings.ravel().tolist() == [3, 2, 4] and len(data.conversations) == len(data.prompts) == 3
    assert list(data.skipped.values()) == [2]
    declared = [row | {"scale": {"helpfulness": [-100, 100]}} for row in rows]
    assert rating_set(declared, "x").ratings.ravel().tolist() == [3, 2, -100, 4, -100]
    with pytest.raises(ValueError, match="row 0: column `helpfulness` has the rating -100"):
        rating_set(rated(-100, -100), "x", skip_unrated=True)


@pytest.mark.parametrize("value", ["N/A", "4/5", float("nan"), [3, "x"]], ids=str)
def test_ratings_that_are_no_numbers_are_left_out_where_rows_may_be(value):
    rows = rated(3, value, 1)
    with pytest.raises(ValueError, match="^x, row 1: column `helpfulness` has"):
        rating_set(rows, "x")
    data = rating_set(rows, "x", skip_unrated=True)
    assert data.ratings.ravel().tolist() == [3, 1] and list(data.skipped.values()) == [1]
    assert [conversation.turns[0]["content"] for conversation in data.conversations] == ["a0", "a2"]
