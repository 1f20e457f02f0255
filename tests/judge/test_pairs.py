"""Which texts a judge is shown, from rows of every form; and which rows are refused."""

import json

import pytest

from urm_hf.data.answers import Columns
from urm_hf.data.source import Source
from urm_hf.judge.pairs import match_pairs, read_pairs

USER = {"role": "user", "content": "Why?"}


def said(text: str) -> dict:
    return {"role": "assistant", "content": text}


def source(path, rows) -> Source:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Source(str(path), strict=True)


def pair_of(tmp_path, row, columns=None):
    (pair,) = read_pairs(source(tmp_path / "rows.jsonl", [row]), columns or Columns())
    return pair


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"prompt": [USER], "chosen": "So.", "rejected": "No."},
        {"prompt": [USER], "chosen": [said("So.")], "rejected": [said("No.")]},
        {"chosen": [USER, said("So.")], "rejected": [USER, said("No.")]},
        {
            "prompt": [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}],
            "chosen": "So.",
            "rejected": "No.",
        },
    ],
    ids=["text", "messages and text", "messages", "implicit prompt", "parts"],
)
def test_every_form_of_pairs_gives_the_same_texts(tmp_path, row):
    pair = pair_of(tmp_path, row | {"id": 5})
    assert (pair.instruction, pair.a, pair.b) == ("Why?", "So.", "No.")
    assert pair.names == ("chosen", "rejected") and pair.columns == row | {"id": 5} and pair.row == 0
    assert pair.answers(0) == ("So.", "No.") and pair.answers(1) == ("No.", "So.")


def test_columns_may_have_other_names(tmp_path):
    row = {"question": "Why?", "mine": "So.", "theirs": "No.", "chosen": 1, "rejected": 2}
    pair = pair_of(tmp_path, row, Columns("question", ("mine", "theirs")))
    assert (pair.instruction, pair.a, pair.b, pair.names) == ("Why?", "So.", "No.", ("mine", "theirs"))


def test_a_list_of_two_answers_is_a_pair(tmp_path):
    pair = pair_of(
        tmp_path, {"prompt": "Why?", "candidates": [{"response": "So.", "model": "x"}, {"response": "No."}]}
    )
    assert (pair.a, pair.b, pair.names) == ("So.", "No.", ("candidates[0]", "candidates[1]"))


def test_a_dialogue_and_a_system_message_are_kept_as_turns(tmp_path):
    turns = [{"role": "system", "content": "Be kind."}, USER, said("So."), {"role": "user", "content": "Really?"}]
    pair = pair_of(tmp_path, {"prompt": turns, "chosen": "Yes.", "rejected": "No."})
    assert (pair.instruction, pair.a) == (turns, "Yes.")
    helpsteer = "Why?\n<extra_id_1>Assistant\nSo.\n<extra_id_1>User\nReally?"
    assert pair_of(tmp_path, {"prompt": helpsteer, "chosen": "Yes.", "rejected": "No."}).instruction == turns[1:]


def test_conversations_that_part_early_differ_from_there_on(tmp_path):
    a, b = [USER, said("So."), USER, said("Yes.")], [USER, said("No."), USER, said("Yes.")]
    pair = pair_of(tmp_path, {"chosen": a, "rejected": b})
    assert (pair.instruction, pair.a, pair.b) == ("Why?", a[1:], b[1:])


def test_calls_of_tools_are_shown(tmp_path):
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    shown = pair_of(tmp_path, {"prompt": [USER], "chosen": [call], "rejected": "No."}).a
    assert shown == [{"role": "assistant", "content": "", "tool_calls": call["tool_calls"]}]


def test_pairs_of_one_prompt_know_it(tmp_path):
    rows = [
        {"prompt": prompt, "chosen": answer, "rejected": "b"}
        for prompt, answer in [("p", "x"), ("q", "x"), ("p", "y")]
    ]
    first, second, third = (pair.prompt for pair in read_pairs(source(tmp_path / "r.jsonl", rows), Columns()))
    assert first == third != second


LABELLED = ("chosen", "rejected")
BAD = [
    ({"prompt": "Why?", "response": "So."}, "it holds 1 answers"),
    ({"prompt": "Why?", "candidates": ["a", "b", "c"]}, "it holds 3 answers"),
    ({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "c"}, "only `chosen` marks its turns"),
    ({"prompt": "", "chosen": "a", "rejected": "b"}, "`prompt` is empty"),
    ({"prompt": "Why?", "chosen": " ", "rejected": "b"}, "is empty"),
    ({"prompt": "Why?", "chosen": 5, "rejected": "b"}, "`chosen` must be text or messages, got int"),
    ({"prompt": {"a": 1}, "chosen": "a", "rejected": "b"}, "`prompt` must be text or messages, got dict"),
    ({"chosen": [USER, said("a")], "rejected": [{"role": "user", "content": "How?"}, said("a")]}, "different prompts"),
    (
        {"chosen": [{"role": "system", "content": "s"}, USER, said("a")], "rejected": [USER, said("a")]},
        "different prompts",
    ),
    (
        {
            name: [{"role": "system", "content": "s"}, {"role": "user", "content": name}, said("a")]
            for name in LABELLED
        },
        "different prompts",
    ),
    ({"prompt": [USER], "chosen": [USER], "rejected": "b"}, "the last message has the role 'user'"),
    (
        {"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}], "chosen": "a", "rejected": "b"},
        "content that is not text",
    ),
]


@pytest.mark.parametrize("row, told", BAD)
def test_a_row_that_is_no_pair_is_named(tmp_path, row, told):
    good = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    with pytest.raises(ValueError, match="rows.jsonl, row 1: ") as error:
        list(read_pairs(source(tmp_path / "rows.jsonl", [good, row]), Columns()))
    assert told in str(error.value)


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="row 0: column `mine` is missing"):
        pair_of(tmp_path, {"prompt": "Why?", "chosen": "a", "rejected": "b"}, Columns(answers=("mine", "theirs")))


# two files


def files(tmp_path, ours, theirs):
    return list(match_pairs(source(tmp_path / "a.jsonl", ours), source(tmp_path / "b.jsonl", theirs), Columns()))


def answer(prompt, text, **more) -> dict:
    return {"prompt": prompt, "response": text} | more


def test_answers_of_two_files_meet_at_their_prompts(tmp_path):
    ours = [answer("p", "ours p", reward=1.5), answer("q", "ours q")]
    theirs = [answer("q", "theirs q"), {"messages": [{"role": "user", "content": "p"}, said("theirs p")]}]
    first, second = files(tmp_path, ours, theirs)
    assert (first.instruction, first.a, first.b) == ("p", "ours p", "theirs p")
    assert (second.instruction, second.a, second.b) == ("q", "ours q", "theirs q")
    assert first.columns == ours[0] | {"against": "theirs p"} and first.names == ("data", "against")


@pytest.mark.parametrize(
    "ours, theirs, told",
    [
        (["p", "q"], ["p"], "a.jsonl, row 1: .*b.jsonl has no answer to its prompt"),
        (["p"], ["p", "q", "r"], "b.jsonl has 2 prompts that .*a.jsonl has not, the first in row 1"),
        (["p", "p"], ["p"], "a.jsonl, row 1: the prompt is that of row 0"),
        (["p"], ["p", "p"], "b.jsonl, row 1: the prompt is that of row 0"),
    ],
)
def test_prompts_that_do_not_meet_are_named(tmp_path, ours, theirs, told):
    with pytest.raises(ValueError, match=told):
        files(tmp_path, [answer(p, "x") for p in ours], [answer(p, "y") for p in theirs])


def test_a_row_of_two_answers_or_with_a_column_against_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 0: it holds 2 answers; with --against"):
        files(tmp_path, [{"prompt": "p", "chosen": "a", "rejected": "b"}], [answer("p", "x")])
    with pytest.raises(ValueError, match="row 0: .*`against`"):
        files(tmp_path, [answer("p", "a", against=1)], [answer("p", "x")])
