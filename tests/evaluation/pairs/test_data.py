"""Preferences in every published form: of which kind they are, which conversations they become, what is wrong."""

import gzip
import json

import pytest
from datasets import Dataset

from tests.helpers.tiny import tiny_tokenizer
from urm_hf.data.conversations import Conversation, encode_conversation
from urm_hf.evaluation.benchmarks.rewardbench import PRIOR_SETS
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns
from urm_hf.evaluation.data import DataOptions, load_data
from urm_hf.evaluation.pairs import data as preference_data
from urm_hf.evaluation.pairs.data import preferences_of


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict:
    return {"role": "assistant", "content": text}


TEXT = {"prompt": "2 + 2 = ", "chosen": "4", "rejected": "5"}
MIXED = {"prompt": [user("2 + 2?")], "chosen": "4", "rejected": "5"}
MESSAGES = {"prompt": [user("2 + 2?")], "chosen": [assistant("4")], "rejected": [assistant("5")]}
WHOLE = {"chosen": [user("2 + 2?"), assistant("4")], "rejected": [user("2 + 2?"), assistant("5")]}
WHOLE_TEXT = {"chosen": "Human: 2 + 2?\nAssistant: 4", "rejected": "Human: 2 + 2?\nAssistant: 5"}
REWARDBENCH = {"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "subset": "hep-js", "chosen_model": "m"}
REWARDBENCH2 = {"prompt": "2 + 2?", "chosen": ["4"], "rejected": ["5", "3", "2"], "subset": "Math", "num_correct": 1}
RMBENCH = {"prompt": "2 + 2?", "chosen": ["4", "4!", "**4**"], "rejected": ["5", "5!", "**5**"], "domain": "math"}
EXPANDED = MIXED | {"chosen_style": "concise", "rejected_style": "concise", "subset": "math"}


def one(row: dict, **how) -> tuple[dict, dict]:
    item = preferences_of([row], "rows", **how).items[0]
    return item.chosen[0], item.rejected[0]


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (TEXT, "pairs"),
        (MIXED, "pairs"),
        (MESSAGES, "pairs"),
        (WHOLE, "pairs"),
        (WHOLE_TEXT, "pairs"),
        (MIXED | {"subset": "hep-js"}, "pairs"),
        (REWARDBENCH, "rewardbench"),
        (REWARDBENCH | {"subset": "another"}, "pairs"),
        (REWARDBENCH2, "rewardbench2"),
        (RMBENCH, "rmbench"),
        (RMBENCH | {"num_correct": 3, "id": "tied:1", "subset": "Ties"}, "rewardbench2"),
        (EXPANDED, "rmbench"),
    ],
)
def test_columns_tell_the_kind(row, kind):
    assert preference_data.find_benchmark([row], PreferenceColumns()).name == kind


@pytest.mark.parametrize("row", [MIXED, MESSAGES, WHOLE, MESSAGES | WHOLE, WHOLE | {"prompt": "2 + 2?"}])
def test_messages_in_every_form_are_the_same_tokens(row):
    tokenizer = tiny_tokenizer()
    expected = [encode_conversation(tokenizer, [user("2 + 2?"), assistant(text)]) for text in "45"]
    assert [encode_conversation(tokenizer, conversation) for conversation in one(row)] == expected


@pytest.mark.parametrize("kind", ["pairs", "rewardbench"])
def test_a_prompt_of_text_has_the_chat_template_in_rewardbench_only(kind):
    tokenizer = tiny_tokenizer()
    expected = {
        "pairs": {"prompt": "2 + 2?", "completion": "4"},
        "rewardbench": [user("2 + 2?"), assistant("4")],
    }
    found = one(REWARDBENCH, kind=kind)[0]
    assert encode_conversation(tokenizer, found) == encode_conversation(tokenizer, expected[kind])


def test_texts_that_hold_the_prompt_stay_whole_and_share_its_key():
    rows = [WHOLE_TEXT, WHOLE_TEXT | {"rejected": "Human: 2 + 2?\nAssistant: I do not know."}]
    first, second = preferences_of(rows, "rows").items
    assert first.chosen[0] == Conversation(text=WHOLE_TEXT["chosen"], closed=True)
    assert first.prompt == second.prompt == "Human: 2 + 2?\n"


def test_texts_with_nothing_in_common_are_prompts_of_their_own():
    rows = [{"chosen": "yes", "rejected": "no"}, {"chosen": "good", "rejected": "bad"}]
    assert preferences_of(rows, "rows").n_prompts == 2


def test_the_last_turns_may_differ_in_several_messages():
    shared = [user("a"), assistant("b"), user("c")]
    row = {"chosen": [*shared, assistant("d")], "rejected": [*shared, assistant("e"), user("f"), assistant("g")]}
    preferences = preferences_of([row], "rows")
    first = preferences.conversations[0]
    assert (first.prompt, first.answer) == (shared, [assistant("d")])
    assert preferences.answer_lengths.tolist() == [1, 3]


def test_equal_prompts_have_one_key_in_text_and_in_messages():
    rows = [MIXED, MIXED | {"rejected": "6"}, MIXED | {"prompt": [user("else?")]}]
    keys = [item.prompt for item in preferences_of(rows, "rows").items]
    assert keys[0] == keys[1] != keys[2]
    assert preferences_of([REWARDBENCH], "rows").items[0].prompt == keys[0]


def test_other_names_of_columns():
    row = {"question": "2 + 2 = ", "good": "4", "bad": "5", "part": "sums"}
    columns = PreferenceColumns(prompt="question", chosen="good", rejected="bad", subset="part")
    item = preferences_of([row], "rows", columns=columns).items[0]
    assert (item.chosen[0].prompt, item.chosen[0].answer) == ("2 + 2 = ", "4") and item.subset == "sums"


def test_a_file_and_its_split(tmp_path):
    path = tmp_path / "mine.jsonl.gz"
    rows = [MIXED | {"split": split, "subset": "s"} for split in ("train", "test", "test")]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    preferences = load_data(str(path), DataOptions(split="test")).content
    assert (preferences.name, preferences.kind, preferences.subsets) == ("mine", "pairs", {"s": 2})


def test_the_splits_of_published_results(monkeypatch):
    asked = []

    def load_rows(*where):
        asked.append(where)
        row = REWARDBENCH2 if "bench-2" in where[0] else RMBENCH if "RM" in where[0] else REWARDBENCH
        return Dataset.from_list([row])

    monkeypatch.setattr(preference_data, "load_rows", load_rows)
    names = ["allenai/reward-bench", "allenai/reward-bench-2", "THU-KEG/RM-Bench"]
    kinds = [load_data(name, DataOptions(revision="abc")).content.kind for name in names]
    assert kinds == ["rewardbench", "rewardbench2", "rmbench"]
    assert asked == [
        ("allenai/reward-bench", "filtered", None, "abc"),
        ("allenai/reward-bench-2", "test", None, "abc"),
        ("THU-KEG/RM-Bench", None, None, "abc"),
    ]


def test_prior_sets_are_subsets_by_their_splits(monkeypatch):
    rows = Dataset.from_list([MIXED | {"subset": "of its own", "margin": 1}])
    monkeypatch.setattr(preference_data, "load_rows", lambda name, split, config, revision: rows)
    preferences = load_data("allenai/preference-test-sets", DataOptions()).content
    assert preferences.kind == "rewardbench" and list(preferences.subsets) == list(PRIOR_SETS)
    assert list(load_data("allenai/preference-test-sets", DataOptions(split="shp")).content.subsets) == ["shp"]


BAD = [
    ({"chosen": None}, "rows, row 1: `chosen` is null. Fill it in."),
    ({"rejected": ""}, "rows, row 1: `rejected` is empty"),
    ({"rejected": " "}, "rows, row 1: `rejected` is empty"),
    ({"prompt": None}, "rows, row 1: `prompt` is null"),
    (
        {"rejected": "4"},
        "rows, row 1: a chosen and a rejected answer are equal. No model can prefer .*'4': take the row",
    ),
    ({"prompt": [assistant("2 + 2?")]}, "rows, row 1: `chosen` is not a conversation. .*follows assistant"),
    ({"subset": None}, "rows, row 1: `subset` is null"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_unusable_rows_are_named_or_counted(change, message):
    rows = [MIXED | {"subset": "s"}, MIXED | {"subset": "s"} | change]
    with pytest.raises(ValueError, match=message + '.* Or leave such rows out: on_error="skip"'):
        preferences_of(rows, "rows")
    preferences = preferences_of(rows, "rows", on_error="skip")
    assert [item.row for item in preferences.items] == [0] and list(preferences.skipped.values()) == [1]
    assert next(iter(preferences.skipped)) in message


@pytest.mark.parametrize(
    ("rows", "how", "message"),
    [
        ([], {}, "rows holds no rows"),
        ([MIXED], {"kind": "elo"}, "`kind` must be one of pairs, rewardbench, rewardbench2, rmbench, got 'elo'"),
        ([MIXED], {"on_error": "ignore"}, "`on_error` must be one of raise, skip, got 'ignore'"),
        ([{"prompt": "a", "response": "b"}], {}, "no column `chosen`; it has prompt, response.*PreferenceColumns"),
        ([MIXED], {"columns": PreferenceColumns(subset="part")}, "no column `part`"),
        ([MIXED], {"kind": "rewardbench"}, "row 0, read as 'rewardbench': there is no column `subset`"),
        ([MIXED], {"kind": "rewardbench2"}, "row 0, read as 'rewardbench2': there is no column `subset`"),
        (
            [MIXED | {"subset": "Math"}],
            {"kind": "rewardbench2"},
            "`chosen` must be a list of answers as text, got text",
        ),
        (
            [MIXED | {"domain": "chat"}],
            {"kind": "rmbench"},
            "row 0, read as 'rmbench': `chosen` must be a list of answers",
        ),
        ([RMBENCH], {"kind": "pairs"}, "row 0, read as 'pairs': `chosen` holds a list of 3 texts, not one answer"),
        ([MIXED, MIXED | {"chosen": ["a", "b"]}], {}, "row 1, read as 'pairs': `chosen` holds a list of 2 texts"),
        (
            [MIXED, MIXED | {"chosen": [assistant("4")]}],
            {},
            "row 1.*several forms: `chosen` is messages, `rejected` is text",
        ),
        ([MIXED | {"chosen": ["4"]}], {}, "row 0, read as 'pairs': `chosen` holds a list of 1 texts"),
        ([MIXED | {"chosen": 4}], {}, "row 0.*`chosen` must be text or messages, got int 4"),
        ([MIXED | {"prompt": 4}], {}, "row 0.*the prompt must be text or messages, got int 4"),
        ([MESSAGES | {"prompt": "2 + 2?"}], {}, "the prompt is text, but its answers are messages"),
        ([WHOLE | {"prompt": "else?"}], {}, "whole conversations, which begin otherwise than the prompt says"),
        ([WHOLE | {"rejected": [user("else?"), assistant("4")]}], {}, "without a common first turn"),
        ([MIXED | {"chosen": None}], {"on_error": "skip"}, "all 1 rows were left out: {'`chosen` is null': 1}"),
    ],
)
def test_bad_data_is_named(rows, how, message):
    with pytest.raises(ValueError, match=message):
        preferences_of(rows, "rows", **how)


def test_a_row_of_another_form_in_a_file_is_an_error(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n".join(map(json.dumps, [EXPANDED, RMBENCH])))
    with pytest.raises(
        ValueError, match="mixed, row 1, read as 'rmbench': `chosen` must be text or messages, got a list of 3"
    ):
        load_data(str(path), DataOptions())
