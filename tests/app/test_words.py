"""What the page says of two scores, and by which familiar conversations it calls one unfamiliar."""

import numpy as np
import pytest
from scipy.stats import norm

from tests.helpers.tolerances import close
from urm_hf.app.familiar import FamiliarSet, choose_measure
from urm_hf.app.words import compute_probability, describe_familiarity, describe_members, describe_preference
from urm_hf.scores import RewardScore


def build_score(reward: float, std: float | None = 1.0, members=None, gaps=None, epistemic=None) -> RewardScore:
    score = RewardScore(reward=reward, reward_std=std, n_tokens=3, truncated=False)
    score["attribute_means"], score["attribute_stds"] = {"x": 2.0, "y": 50.0}, {"x": 0.5, "y": 20.0}
    if members is not None:
        score["member_rewards"], score["reward_gap"] = members, float(np.ptp(members))
        score["attribute_gaps"], score["epistemic_variance"] = gaps or {"x": 0.4, "y": 4.0}, epistemic or 0.1
    return score


def test_the_probability_is_that_of_two_independent_gaussians():
    scores = [build_score(2.0, 0.6), build_score(1.0, 0.8)]
    assert compute_probability(scores) == close(norm.cdf(1.0))
    assert compute_probability([RewardScore(reward=1.0), RewardScore(reward=0.0)]) is None


@pytest.mark.parametrize(
    "margin, sentence",
    [
        (0.0, "Both answers get the same reward."),
        (0.1, "The model cannot tell which answer is better."),
        (0.7, "Answer A is perhaps better."),
        (-1.5, "Answer B is probably better."),
        (-9.0, "Answer B is better, and the model is sure of it."),
    ],
)
def test_the_sentence_is_as_sure_as_the_model(margin, sentence):
    assert describe_preference([build_score(margin), build_score(0.0)]) == sentence


def test_a_scalar_model_is_not_said_to_be_sure():
    told = describe_preference([RewardScore(reward=0.0), RewardScore(reward=1.0)])
    assert told == "Answer B gets the higher reward. This model does not say how sure it is."


def test_members_that_disagree_are_counted_and_the_attribute_is_found_in_its_own_units():
    scores = [build_score(1.0, members=[1.0, 0.0, 3.0]), build_score(0.9, members=[0.0, 1.0, 0.0])]
    first, on_a, on_b = describe_members(scores)
    assert first == "The members disagree: 2 of 3 prefer answer A."
    # 0.4 of a spread of 0.5 is more than 4 of 20
    assert "about x" in on_a and "0.40 apart" in on_a and on_b.startswith("On answer B")
    assert describe_members([build_score(1.0), build_score(0.0)]) == [
        "This is a single model: load an ensemble to see what is not known."
    ]


def test_a_conversation_is_unfamiliar_above_95_percent_of_the_familiar():
    familiar = FamiliarSet("epistemic", np.arange(100) / 100)
    scores = [build_score(0.0, members=[0.0, 0.0], epistemic=value) for value in (0.975, 0.505)]
    assert familiar.compute_share_below(scores) == close([0.98, 0.51])
    on_a, on_b = describe_familiarity(scores, familiar)
    assert "A looks unfamiliar" in on_a and "98%" in on_a and "B looks familiar" in on_b
    (unknown,) = describe_familiarity(scores, None)
    assert "not known" in unknown


def test_the_measure_is_the_members_disagreement_where_there_are_members():
    assert choose_measure([build_score(0.0, members=[0.0, 1.0])]) == "epistemic"
    single = build_score(0.0)
    single["attribute_variance"] = 1.0
    assert choose_measure([single]) == "attribute_variance"
    assert choose_measure([RewardScore(reward=0.0)]) is None


def test_a_single_model_with_a_posterior_says_where_its_doubt_comes_from():
    scores = [build_score(1.0), build_score(0.0)]
    for score in scores:
        score["epistemic_variance"] = 0.1
    assert describe_members(scores) == ["This is a single model; what it does not know is told by its posterior."]
    assert choose_measure(scores) == "epistemic"
