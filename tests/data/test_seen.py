"""What a config records of the conversations that a model was trained on, and what is told by it."""

import json

import pytest

from urm_hf.data.conversations import read_conversation
from urm_hf.data.seen import (
    DIGESTS,
    MOST_KEPT,
    OTHER_FORM,
    describe_other_form,
    describe_seen,
    join_forms,
    mark_conversation,
    read_seen,
    summarize_seen,
    without_digests,
)


def chats(numbers):
    return [read_conversation({"prompt": f"Question {n}?", "response": f"Answer {n}."}) for n in numbers]


def texts(numbers):
    return [read_conversation({"prompt": f"Question {n}?", "completion": f"Answer {n}."}) for n in numbers]


def training(conversations, stage="attribute_stage"):
    record = {"seed": 1, **summarize_seen(map(mark_conversation, conversations))}
    return {stage: json.loads(json.dumps(record))}  # as it comes back from config.json


def test_all_of_them_are_counted():
    trained = training(chats(range(10)))
    assert trained["attribute_stage"]["conversations"] == 10 and trained["attribute_stage"]["read_as"] == "chat"
    assert "(10 of 10 for the attribute stage)" in describe_seen(trained, chats(range(10)))
    assert "(4 of 8 for the attribute stage)" in describe_seen(trained, chats(range(6, 14)))


def test_of_others_nothing_is_said():
    assert describe_seen(training(chats(range(10))), chats(range(10, 20))) is None
    assert describe_seen(None, chats(range(3))) is None
    assert describe_seen({}, chats(range(3))) is None


def test_the_same_words_are_found_in_another_form():
    assert "(10 of 10" in describe_seen(training(texts(range(10))), chats(range(10)))


def test_a_large_set_is_recognized_by_a_few_of_its_conversations_and_the_share_is_estimated():
    trained = training(chats(range(4000)))
    (seen,) = read_seen(trained)
    assert seen.count == 4000 and len(seen.digests) == MOST_KEPT
    assert "about 100% of 4,000 for the attribute stage" in describe_seen(trained, chats(range(4000)))
    told = describe_seen(trained, chats(range(2000, 6000)))
    share = float(told.split("about ")[1].split("%")[0]) / 100
    # of some 512 that can be told, drawn by their digests: four standard deviations of a share of one half
    assert share == pytest.approx(0.5, abs=4 * (0.25 / 512) ** 0.5)
    assert describe_seen(trained, chats(range(4000, 8000))) is None


def test_it_takes_a_few_kilobytes_whatever_the_size():
    assert len(json.dumps(training(chats(range(3000))))) < 5000


def test_records_of_every_stage_and_of_merged_models_are_read():
    both = training(chats(range(3))) | training(texts(range(5, 9)), "gating_stage")
    merged = {"merged_from": [{"name": "a", "training": both}, {"name": "b", "training": None}]}
    assert [seen.stage for seen in read_seen(merged)] == ["the attribute stage", "the gating stage"]
    assert read_seen([None, both]) == read_seen(both)


@pytest.mark.parametrize(
    "changed",
    [{"conversations": "many"}, {"read_as": 3}, {DIGESTS: ["x"]}, {DIGESTS: "no base64!"}, {DIGESTS: "YQ=="}],
    ids=str,
)
def test_a_record_that_somebody_changed_tells_nothing_and_breaks_nothing(changed):
    trained = training(chats(range(3)))
    trained["attribute_stage"] |= changed
    assert describe_seen(trained, chats(range(3))) is None


def test_digests_can_be_left_out_and_the_form_stays():
    left = without_digests(training(chats(range(3))))
    assert DIGESTS not in left["attribute_stage"] and left["attribute_stage"]["conversations"] == 3
    assert describe_seen(left, chats(range(3))) is None
    assert describe_other_form(left, "text") == OTHER_FORM


@pytest.mark.parametrize(
    "trained, given, told",
    [
        (training(chats(range(3))), "text", True),
        (training(chats(range(3))), "chat and text", True),
        (training(chats(range(3))), "chat", False),
        (training(chats(range(3))), "exact", False),
        (training(texts(range(3))), "text", False),
        (training([*chats(range(3)), *texts(range(3))]), "text", False),
        (None, "text", False),
        # the gate learnt from plain text, but the attributes from chats
        (training(chats(range(3))) | training(texts(range(3)), "gating_stage"), "text", True),
    ],
)
def test_plain_text_is_told_to_a_model_that_learnt_from_chats(trained, given, told):
    assert (describe_other_form(trained, given) is not None) == told


def test_text_that_is_scored_exactly_as_it_stands_is_no_other_form():
    assert mark_conversation(read_conversation({"text": "Question? Answer."})).startswith("exact:")


def test_forms_are_of_what_can_be_read():
    rows = [{"prompt": "a?", "response": "b"}, {"prompt": "a?"}, {"prompt": "a?", "completion": "b"}, "a? b"]
    assert join_forms(rows) == "chat and text and exact" and join_forms(rows[1:2]) == ""
