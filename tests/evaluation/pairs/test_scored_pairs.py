"""Which scores make a pair, and what cannot be one."""

import numpy as np
import pytest

from tests.helpers.made_scores import scalar_pairs, urm_pairs
from urm_hf.data.conversations import Conversation
from urm_hf.evaluation.benchmarks import PAIRS, REWARDBENCH2
from urm_hf.evaluation.benchmarks.benchmark import PreferenceItem, PreferenceSet
from urm_hf.evaluation.pairs.baselines import longest_answer, random_metrics
from urm_hf.evaluation.pairs.scored_pairs import ScoredPairs, scored_pairs
from urm_hf.scores import RewardScore


def item(chosen, rejected, prompt, number=0) -> PreferenceItem:
    sides = (tuple(Conversation(text=text, closed=True) for text in texts) for texts in (chosen, rejected))
    return PreferenceItem(*sides, prompt, None, number)


@pytest.fixture
def preferences() -> PreferenceSet:
    return PreferenceSet(
        "made up", PAIRS, [item(["aa"], ["b"], "x", 0), item(["c"], ["dddd"], "y", 1), item(["e"], ["f"], "x", 2)]
    )


def test_margins_are_of_the_chosen_less_the_rejected_answer_of_an_item(preferences):
    scores = [RewardScore(reward=reward) for reward in (3.0, 1.0, 2.0, 2.0, 0.0, 5.0)]
    pairs = scored_pairs(preferences, scores)
    assert pairs.margins.tolist() == [2, 0, -5]
    assert pairs.right.tolist() == [True, False, False]  # a tie is wrong
    assert pairs.prompts == ["x", "y", "x"]


def test_every_chosen_goes_with_every_rejected_answer():
    data = PreferenceSet("made up", REWARDBENCH2, [item(["a", "b"], ["c", "d", "e"], "x")])
    pairs = scored_pairs(data, [RewardScore(reward=reward) for reward in (10.0, 20.0, 1.0, 2.0, 3.0)])
    assert sorted(pairs.margins.tolist()) == [7, 8, 9, 17, 18, 19]


def test_the_longest_answer_has_the_highest_reward(preferences):
    scores = longest_answer(preferences)
    assert [score.reward for score in scores] == [2, 1, 1, 4, 1, 1]
    assert scored_pairs(preferences, scores).right.tolist() == [True, False, False]


def test_random_rewards_are_right_half_the_time_and_say_one_half(preferences):
    found = {(one.metric, one.level): one for one in random_metrics(preferences)}
    assert found["accuracy", None].value == pytest.approx(0.5)
    p = np.full(1, 0.5)
    assert found["brier", None].value == pytest.approx(((1 - p) ** 2).mean())
    assert found["nll", None].value == pytest.approx(-np.log(p).mean())
    assert (found["nll", None].n, found["nll", None].prompts, found["nll", None].interval) == (3, 2, None)


def test_stds_count_only_if_all_scores_have_one():
    pairs = urm_pairs([1, 2], [1, 1], [1, 1])
    assert pairs.has_stds and not scalar_pairs([1, 2]).has_stds
    partly = ScoredPairs(pairs.chosen, [pairs.rejected[0], RewardScore(reward=1.0)], pairs.prompts)
    assert not partly.has_stds


@pytest.mark.parametrize(
    "sides, told",
    [
        (([1.0, 2.0], [1.0], ["x", "y"]), "2 chosen, 1 rejected, 2 prompts"),
        (([1.0], [1.0], ["x", "y"]), "1 chosen, 1 rejected, 2 prompts"),
        (([], [], []), "no pair"),
        (([1.0, float("nan")], [1.0, 2.0], ["x", "y"]), r"`chosen`\[1\] has the reward nan"),
        (([1.0], [None], ["x"]), r"`rejected`\[0\] has the reward None"),
    ],
)
def test_bad_pairs_are_named(sides, told):
    chosen, rejected, prompts = sides
    with pytest.raises(ValueError, match=told):
        ScoredPairs([{"reward": r} for r in chosen], [{"reward": r} for r in rejected], prompts)


def test_scores_of_other_data_are_named(preferences):
    with pytest.raises(ValueError, match="made up has 6 conversations, got 5 scores"):
        scored_pairs(preferences, [RewardScore(reward=1.0)] * 5)
