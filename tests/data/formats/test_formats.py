"""Each format reads rows in the shape in which they are published, and nothing less than they hold."""

import itertools
import json

import pytest

from tests.helpers.format_rows import EXAMPLES, RIVER, SEA, assistant, user
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.formats.question_columns import find_texts
from urm_hf.data.formats.reading import BY_NAME, FORMATS, find_format, kind_of, read_row

ROWS = [
    pytest.param(one, row, id=f"{one.format}-{n}") for one in EXAMPLES for n, row in enumerate([*one.rows, *one.ties])
]


def better_and_worse(row, name=None):
    [pair] = rank_pairs(read_row(row, name))
    return [next(find_texts(pair[side])) for side in ("chosen", "rejected")]


def test_every_detected_format_has_an_example():
    derived = {"rmbench-pairs", "pairrm-candidates"} | {f"distilabel-{end}" for end in ("prompt", "responses")}
    derived |= {"distilabel-prompt-responses", "context"}
    derived |= {f"{question}-preference" for question in ("query", "problem", "request", "user_prompt")}
    derived |= {one for one in BY_NAME if one.startswith("helpsteer3-")}
    assert {one.name for one in FORMATS if one.detected} - derived == {one.format for one in EXAMPLES}


@pytest.mark.parametrize("example,row", ROWS)
def test_a_row_is_known_by_its_columns(example, row):
    assert find_format(row).name == example.format


@pytest.mark.parametrize("example,row", ROWS)
def test_a_row_holds_what_its_format_says(example, row):
    assert kind_of(read_row(row)) == ("candidates" if row in list(example.ties) else example.kind)


@pytest.mark.parametrize("example,row", ROWS)
def test_a_canonical_row_is_canonical(example, row):
    read = read_row(row)
    again = read_row(read)
    assert again == read


@pytest.mark.parametrize("example,row", ROWS)
def test_no_text_of_a_row_is_lost(example, row):
    texts = [text for text in find_texts(row) if not any(mark in text for mark in ("<extra_id_1>", "Human:"))]
    read = " ".join(find_texts(read_row(row)))
    consumed = {"Rationale", "because", "N/A", "5", "4", "1"}  # of UltraFeedback's notes only the ratings are kept
    assert [text for text in texts if text not in read and text not in consumed] == []


@pytest.mark.parametrize("example,row", ROWS)
def test_the_better_answer_is_that_of_the_data(example, row):
    if example.kind != "pair" or row in list(example.ties):
        return
    chosen, rejected = (list(find_texts(read_row(row)[side])) for side in ("chosen", "rejected"))
    assert any(word in chosen[-1] for word in ("Po", "Aral", "river"))
    assert not any(word in rejected[-1] for word in ("Po", "Aral", "river"))


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.ties], ids=lambda one: one.format)
def test_a_tie_prefers_no_answer_and_says_why(example):
    for row in example.ties:
        read = read_row(row)
        assert rank_pairs(read) == []
        assert "`" in read["undecided"]


def test_candidates_give_each_pair_of_different_scores():
    row = {
        "prompt": RIVER,
        "candidates": [{"response": text, "score": n} for n, text in ((1, "a"), (3, "b"), (1, "c"))],
    }
    pairs = [(pair["chosen"], pair["rejected"]) for pair in rank_pairs(row)]
    assert pairs == [("b", "a"), ("b", "c")]


def test_candidates_without_scores_are_not_compared():
    with pytest.raises(ValueError, match="no `score`"):
        rank_pairs({"prompt": RIVER, "candidates": [{"response": "a"}, {"response": "b", "score": 1}]})


def test_candidates_become_rows_with_their_ratings():
    ultrafeedback = next(one for one in EXAMPLES if one.format == "ultrafeedback")
    rows = split_candidates(read_row(ultrafeedback.rows[0]))
    assert [row["ratings"] for row in rows] == [{"helpfulness": 1, "honesty": None}, {"helpfulness": 5, "honesty": 4}]
    assert [row["score"] for row in rows] == [1, 4.5]


@pytest.mark.parametrize(
    "columns", [("better_response_id", "safer_response_id"), ("better_response_id",), ("safer_response_id",)]
)
@pytest.mark.parametrize("ids", list(itertools.product((0, 1), repeat=2)))
def test_two_ids_must_agree_or_one_is_named(columns, ids):
    row = {"prompt": RIVER, "response_0": "zero", "response_1": "one", **dict(zip(columns, ids, strict=False))}
    given = ids[: len(columns)]
    if len(set(given)) == 1:
        assert better_and_worse(row) == (["one", "zero"] if given[0] else ["zero", "one"])
        return
    assert rank_pairs(read_row(row)) == []
    assert "pku-saferlhf-better" in read_row(row)["undecided"]
    for name, better in zip(("better", "safer"), ids, strict=True):
        assert better_and_worse(row, f"pku-saferlhf-{name}")[0] == ("one" if better else "zero")


@pytest.mark.parametrize(
    "row,column",
    [
        ({"question": RIVER, "prompt": "x", "chosen": "a", "rejected": "b"}, "question"),
        ({"chosen": "a b", "rejected": "a c", "article": "A long story."}, "article"),
        ({"prompt": RIVER, "response": "The Po.", "history": [["Hi", "Hello"]]}, "history"),
        ({"prompt": RIVER, "completion": "The Po.", "system": "You are a pirate"}, "system"),
        ({"messages": [user(RIVER), assistant("Po.")], "prompt": SEA}, "prompt"),
        ({"prompt": RIVER, "response": "A cat.", "image": "cat.png"}, "image"),
        ({"text": "A river is the Po.", "system": "Be brief."}, "system"),
    ],
)
def test_a_part_of_the_question_that_nobody_reads_is_an_error(row, column):
    with pytest.raises(ValueError, match=f"`{column}`.*`ignore_columns`"):
        read_row(row)
    assert read_row(row, ignore=[column])[column] == row[column]


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [user(RIVER), assistant("Po.")], "prompt": RIVER},
        {"instruction": RIVER, "output": "Po.", "prompt": RIVER, "response": "Po."},
        {"prompt": RIVER, "response": "Po.", "system": "gpt-4", "ratings": {"quality": 1}},
        {"prompt": RIVER, "response": "Po.", "system": "Nucleus Decoding (p = 0.3)", "ratings": {"quality": 1}},
        {"prompt": RIVER, "response": "Po.", "history": None, "context": "  ", "input": ""},
    ],
)
def test_what_is_said_already_or_says_nothing_may_stay_unread(row):
    assert read_row(row)


def test_a_row_of_no_format_names_columns_and_the_nearest_formats():
    with pytest.raises(ValueError, match=r"columns query, good, bad .*Nearest: .*`format`"):
        read_row({"query": "a", "good": "b", "bad": "c"})


def test_a_row_of_two_formats_names_both():
    row = {"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}
    row |= {"context": "c", "response1": "a", "response2": "b", "overall_preference": 1}
    with pytest.raises(ValueError, match="fit two formats equally: .*helpsteer3.* and .*shp"):
        read_row(row)


def test_a_format_that_is_not_known_suggests_one():
    with pytest.raises(ValueError, match="did you mean .*helpsteer2"):
        read_row({"prompt": "a"}, "helpster2")


def test_a_named_format_needs_its_columns():
    with pytest.raises(ValueError, match="shp needs the columns history, .*the row has no human_ref_A"):
        read_row({"history": "a", "labels": 1}, "shp")


@pytest.mark.parametrize("extra", ["feedback", "edited_response"])
def test_helpsteer3_feedback_and_edits_are_refused_by_name(extra):
    row = {"context": [user(RIVER)], "original_response": "a", "response": "a", extra: "b"}
    with pytest.raises(ValueError, match="load its `preference` part"):
        read_row(row)


@pytest.mark.parametrize(
    "row,told",
    [
        ({"prompt": None, "chosen": "a", "rejected": "b"}, "`prompt` is null"),
        ({"history": "  ", "human_ref_A": "a", "human_ref_B": "b", "labels": 1}, "`history` is empty"),
        ({"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": 2}, "`labels` must be one of 1, 0, got 2"),
        ({"history": "h", "human_ref_A": "a", "human_ref_B": "b", "labels": []}, "`labels` must be one of"),
        ({"context": "c", "response1": "a", "response2": "b", "overall_preference": "x"}, "finite number, got 'x'"),
        ({"question": 5, "chosen": "a", "rejected": "b"}, "`question` must be text, got int 5"),
        ({"conversations": [{"from": "pope", "value": "x"}]}, "from 'pope'; known are human"),
        ({"conversations": [{"from": "human", "value": None}]}, "`value` must be text"),
        ({"prompt": "x", "answers": [{"answer": "a", "rank": 1}]}, "`prompt` must begin with"),
        (
            {
                "conversation_a": [user("a"), assistant("b")],
                "conversation_b": [user("a"), assistant("c")],
                "winner": "me",
            },
            "model_a, model_b or a tie",
        ),
    ],
)
def test_errors_name_column_and_value(row, told):
    with pytest.raises(ValueError, match=told):
        rank_pairs(read_row(row))


def test_a_rating_that_contradicts_the_choice_is_an_error():
    row = dict(next(one for one in EXAMPLES if one.format == "ultrafeedback-argilla").rows[0])
    row |= {"chosen-rating": 1.0, "rejected-rating": 4.0}
    with pytest.raises(ValueError, match="rejected answer is rated higher"):
        read_row(row)


def test_function_calls_of_sharegpt_are_calls():
    turns = [
        {"from": "human", "value": RIVER},
        {"from": "function_call", "value": '{"name": "find_river", "arguments": {"country": "Italy"}}'},
        {"from": "observation", "value": "Po"},
        {"from": "gpt", "value": "The Po."},
    ]
    read = read_row({"conversations": turns, "tools": '[{"name": "find_river"}]'})
    assert [turn["role"] for turn in read["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert read["messages"][1]["tool_calls"][0]["function"] == {
        "name": "find_river",
        "arguments": {"country": "Italy"},
    }
    assert read["tools"] == [{"name": "find_river"}]


def test_json_in_cells_is_read_as_in_files():
    for example in EXAMPLES:
        if example.format in ("input-ids", "responses", "completions", "alpaca-pair"):
            continue
        for row in example.rows:
            cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            assert find_format(cells).name == example.format


def test_what_is_no_list_of_turns_is_told_beside_a_system_prompt_too():
    with pytest.raises(ValueError, match="`messages` must be a list of turns, got False"):
        read_row({"system": "Be brief.", "messages": False})
