"""Rows of many forms have the same ids wherever they are read: by every command, from every kind of file."""

import json

import pytest
from datasets import Dataset

from tests.helpers.row_forms import PAIRS, full_tokenizer
from tests.helpers.tiny import tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, gating_trainer
from urm_hf import RewardScorer
from urm_hf.bestofn.data import read_candidates
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversation_keys import as_row, conversation_key
from urm_hf.data.conversations import encode_conversation, read_conversation
from urm_hf.data.source import Source
from urm_hf.evaluation.pairs.data import preferences_of
from urm_hf.judge.pairs import read_pairs
from urm_hf.rl.preference_pairs import build_preference_pairs
from urm_hf.rl.rewards import CompletionScorer

TOKENIZER = full_tokenizer()
FORMS = pytest.mark.parametrize("form", PAIRS)
# candidates are answers to a prompt, in a chat template
WITH_CANDIDATES = [
    form for form, (row, _) in PAIRS.items() if "prompt" in row and form != "plain text" and "whole" not in form
]
# a judge needs an instruction, and a policy a prompt
INSTRUCTED = [form for form in PAIRS if form != "plain text with its prompt"]
PROMPTED = [form for form, (row, _) in PAIRS.items() if conversations_of(row, Columns())[0][1].prompt is not None]


def expected(form: str) -> list[list[int]]:
    return [make(TOKENIZER) for make in PAIRS[form][1]]


def ids(conversation) -> list[int]:
    return encode_conversation(TOKENIZER, conversation)


def pair_of(row) -> list[list[int]]:
    return [ids(conversation) for _, conversation in conversations_of(row, Columns())]


def scorer() -> RewardScorer:
    return RewardScorer(tiny_urm(), full_tokenizer())


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def turns(role: str, said: str | list[dict]) -> list[dict]:
    return [{"role": role, "content": said}] if isinstance(said, str) else said


def alike(form: str) -> list[dict]:
    """Rows of the same columns as this form, so that a table gives each the keys of all."""
    if form == "parts of content":  # Arrow has no column of texts and lists
        return [PAIRS[form][0]]
    others = [row for name, (row, _) in PAIRS.items() if name != "parts of content"]
    columns = {name: type(value) for name, value in PAIRS[form][0].items()}
    return [row for row in others if {name: type(value) for name, value in row.items()} == columns]


@FORMS
def test_both_sides_have_the_ids_of_the_chat_template_or_of_trl(form):
    sides = expected(form)
    assert sides[0] != sides[1]
    assert pair_of(PAIRS[form][0]) == sides


@FORMS
def test_a_table_gives_the_ids_of_the_file(tmp_path, form):
    rows = alike(form)
    number = rows.index(PAIRS[form][0])
    table = Dataset.from_list(rows)
    table.to_parquet(tmp_path / "rows.parquet")
    assert pair_of(table[number]) == expected(form)
    for path in (tmp_path / "rows.parquet", write(tmp_path / "rows.jsonl", rows)):
        source = Source(str(path))
        assert pair_of(list(map(source.row, source.items()))[number]) == expected(form)


def test_the_scorer_scores_these_ids():
    conversations = [c for row, _ in PAIRS.values() for _, c in conversations_of(row, Columns())]
    lengths = [len(side) for form in PAIRS for side in expected(form)]
    assert [score.n_tokens for score in scorer().score(conversations)] == lengths
    assert [score.n_tokens for score in scorer().score_stream(iter(conversations))] == lengths
    assert scorer().encode(conversations)[0] == [side for form in PAIRS for side in expected(form)]


@FORMS
def test_the_gating_trainer_trains_on_these_ids(tmp_path, form):
    rows = alike(form)
    trainer = gating_trainer(tmp_path, rows, tokenizer=full_tokenizer(), cache_features=False)
    row = trainer.train_dataset[rows.index(PAIRS[form][0])]
    assert [list(row["chosen_ids"]), list(row["rejected_ids"])] == expected(form)


def test_the_attribute_trainer_trains_on_these_ids(tmp_path):
    ratings = dict.fromkeys(ATTRIBUTES, 1.0)
    conversations = [c for row, _ in PAIRS.values() for _, c in conversations_of(row, Columns())]
    chats = [c for c in conversations if c.turns is not None]
    given = {"tools": None, "chat_template_kwargs": None}  # a table has the columns of its first row
    rows = [given | as_row(conversation) | ratings for conversation in chats]
    trainer = attribute_trainer(tmp_path, rows, tokenizer=full_tokenizer())
    assert [list(row) for row in trainer.train_dataset["input_ids"]] == [ids(conversation) for conversation in chats]


@FORMS
def test_evaluation_reads_these_ids(form):
    (item,) = preferences_of([PAIRS[form][0]], "rows").items
    assert [ids(item.chosen[0]), ids(item.rejected[0])] == expected(form)
    assert conversation_key(item.chosen[0]) != conversation_key(item.rejected[0])


@pytest.mark.parametrize("form", WITH_CANDIDATES)
def test_best_of_n_reads_these_ids(tmp_path, form):
    row = PAIRS[form][0]
    candidates = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    candidates["candidates"] = [row["chosen"], row["rejected"]]
    (read,) = read_candidates(Source(write(tmp_path / "rows.jsonl", [candidates])))
    assert [ids(conversation) for conversation in read.conversations] == expected(form)
    assert not read.empty.any()


@pytest.mark.parametrize("form", INSTRUCTED)
def test_a_judge_sees_what_is_encoded(tmp_path, form):
    (pair,) = read_pairs(Source(write(tmp_path / "rows.jsonl", [PAIRS[form][0]])), Columns())
    assert pair.a != pair.b and pair.instruction
    if form in ("plain text", "tools"):
        return  # seen as turns, and without the tools, which a judge cannot call
    sides = []
    for answer in (pair.a, pair.b):
        said = (
            [{"role": "user", "content": pair.instruction}] if isinstance(pair.instruction, str) else pair.instruction
        )
        answered = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        sides.append(ids([*said, *answered]))
    assert sides == expected(form)


@pytest.mark.parametrize("form", PROMPTED)
def test_rewards_and_preference_pairs_score_these_ids(monkeypatch, form):
    (_, chosen), (_, rejected) = conversations_of(PAIRS[form][0], Columns())
    seen: list[list[int]] = []
    reward = scorer()
    encode = type(reward).encode

    def watch(self, rows, first_row=0):
        sequences, cut = encode(self, rows, first_row)
        seen.extend(sequences)
        return sequences, cut

    monkeypatch.setattr(type(reward), "encode", watch)
    columns = {"tools": [chosen.tools] * 2, "chat_template_kwargs": [chosen.chat_template_kwargs] * 2}
    answers = [chosen.answer, rejected.answer]
    CompletionScorer(reward).score_usable([chosen.prompt] * 2, answers, columns=columns)
    assert seen == expected(form)
    if chosen.tools is None:
        seen.clear()
        build_preference_pairs([chosen.prompt], [answers], reward)
        assert seen == expected(form)


@FORMS
def test_a_conversation_is_one_row_and_one_key(form):
    conversations = [conversation for _, conversation in conversations_of(PAIRS[form][0], Columns())]
    assert len({conversation.key for conversation in conversations}) == 2
    for conversation in conversations:
        again = read_conversation(json.loads(json.dumps(as_row(conversation))))
        assert again.key == conversation.key and ids(again) == ids(conversation)
        assert conversation_key(as_row(conversation)) == conversation_key(conversation)
