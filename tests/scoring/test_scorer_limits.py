"""Conversations that are too long for the scorer: refused or cut, and counted."""

import pytest

from tests.helpers.conversations import TEXTS, outputs_alone
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer


def test_a_conversation_over_the_limit_is_an_error_that_names_its_row():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), max_length=10)
    with pytest.raises(ValueError, match="row 1: the conversation has 42 tokens, more than max_length=10"):
        scorer.score(TEXTS)


def test_the_limit_is_by_default_what_the_positions_of_the_model_allow(scorer):
    scorer.score(["a" * 512])
    with pytest.raises(ValueError, match="513 tokens, more than max_length=512"):
        scorer.score(["a" * 513])


def test_the_limit_of_an_ensemble_is_by_default_that_of_its_members(ensemble):
    with pytest.raises(ValueError, match="513 tokens, more than max_length=512"):
        RewardScorer(ensemble).score(["a" * 513])


@pytest.mark.parametrize("truncation, kept", [("left", slice(-10, None)), ("right", slice(10))])
def test_longer_conversations_are_cut_on_the_side_that_is_named_and_marked(truncation, kept):
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), max_length=10, truncation=truncation)
    scores = scorer.score(TEXTS)
    expected = outputs_alone(scorer.model, [text[kept] if len(text) > 10 else text for text in TEXTS])
    assert [score.reward for score in scores] == close([o.logits.item() for o in expected])
    assert [score.truncated for score in scores] == [False, True, False, True, False, True]
    assert [score.n_tokens for score in scores] == [6, 10, 1, 10, 6, 10]


def test_the_statistics_count_what_was_scored_and_cut():
    scorer = RewardScorer(tiny_urm(), tiny_tokenizer(), max_length=10, truncation="left")
    scorer.score(["a", "b"])
    scorer.score(TEXTS)
    assert {name: scorer.stats[name] for name in ("conversations", "tokens", "truncated")} == {
        "conversations": 6,
        "tokens": 43,
        "truncated": 3,
    }
