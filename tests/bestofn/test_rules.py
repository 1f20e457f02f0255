"""Ranking candidates by reward and uncertainty."""

import numpy as np
import pytest
import torch

from urm_hf.bestofn.rules import Rule, rank, read_kind, rules_for
from urm_hf.modeling.distributions_urm import aggregate_rewards
from urm_hf.scores import RewardScore


def scalar(rewards: list[float]) -> list[RewardScore]:
    return [RewardScore(reward=reward) for reward in rewards]


def urm(rewards: list[float], stds: list[float], variances: list[float] | None = None) -> list[RewardScore]:
    return [
        RewardScore(reward=r, reward_std=s, attribute_variance=v)
        for r, s, v in zip(rewards, stds, variances or [1.0] * len(stds), strict=True)
    ]


def ensemble(members: list[list[float]], stds: list[float] | None = None) -> list[RewardScore]:
    """`members`: for each conversation the members' rewards."""
    return [
        RewardScore(reward=float(np.mean(row)), reward_std=std, reward_gap=max(row) - min(row), member_rewards=row)
        for row, std in zip(members, stds or [1.0] * len(members), strict=True)
    ]


def order(rule: Rule, scores) -> list[int]:
    """Candidates, best first."""
    return np.argsort(-rank(rule, scores).keys, kind="stable").tolist()


MEMBERS = torch.randn(3, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # (M, N)


@pytest.mark.parametrize(
    ("rule", "how", "k"),
    [
        (Rule("reward"), "mean", 0),
        (Rule("min"), "min", 0),
        (Rule("mean_minus_k_std"), "mean_minus_k_std", 1),
        (Rule("mean_minus_k_std", k=2.5), "mean_minus_k_std", 2.5),
    ],
)
def test_members_are_ranked_as_an_ensemble_aggregates_them(rule, how, k):
    scores = ensemble(MEMBERS.T.tolist())
    expected = aggregate_rewards(MEMBERS, how, k)
    assert order(rule, scores) == torch.argsort(expected, descending=True).tolist()


def test_the_mean_is_that_of_the_members_also_where_the_ensemble_takes_their_least():
    scores = ensemble([[0.0, 3.0], [1.0, 1.0]])
    for score in scores:
        score["reward"] = score.reward = min(score.member_rewards)
    assert order(Rule("reward"), scores) == [1, 0]
    assert order(Rule("mean_minus_k_std", k=0), scores) == [0, 1]
    assert order(Rule("mean_minus_k_std", k=0.5), scores) == [1, 0]  # 1.5 - 0.75 < 1


def test_a_single_urm_pays_for_its_own_std():
    scores = urm([3.0, 2.0, 1.0], [2.0, 0.5, 0.1])
    assert order(Rule("reward"), scores) == [0, 1, 2]
    assert order(Rule("mean_minus_k_std"), scores) == [1, 0, 2]  # 1, 1.5, 0.9
    assert order(Rule("mean_minus_k_std", k=2), scores) == [1, 2, 0]  # -1, 1, 0.8


def test_equal_scores_share_a_key_and_others_do_not():
    keys = rank(Rule("reward"), scalar([1.0, 2.0, 1.0, 0.0])).keys
    assert keys[0] == keys[2] and keys[1] > keys[0] > keys[3]


def test_what_is_filtered_comes_after_the_rest_by_its_reward():
    scores = urm([5.0, 4.0, 1.0, 2.0], [9.0, 0.1, 0.1, 9.0], [3.0, 1.0, 2.0, 4.0])
    ranking = rank(Rule("filtered", threshold=2.0), scores)
    assert ranking.eligible.tolist() == [False, True, True, False] and ranking.threshold == 2.0
    assert order(Rule("filtered", threshold=2.0), scores) == [1, 2, 0, 3]
    assert order(Rule("filtered", threshold=0.5), scores) == order(Rule("reward"), scores)  # none is left: all are
    assert order(Rule("filtered", measure="reward_std", threshold=1), scores) == [1, 2, 0, 3]


def test_a_share_is_of_all_candidates_that_are_ranked_at_once():
    scores = ensemble([[0.0, float(k)] for k in range(10)])
    ranking = rank(Rule("filtered"), scores)
    assert ranking.eligible.tolist() == [True] * 8 + [False] * 2 and ranking.threshold == 7.0
    assert rank(Rule("filtered", keep=0.25), scores).eligible.sum() == 3


@pytest.mark.parametrize("rule", [Rule("reward"), Rule("min"), Rule("filtered", threshold=0.5)])
def test_what_has_no_score_comes_last(rule):
    scores = [None, *ensemble([[-5.0, -5.0], [-9.0, 2.0]]), None]
    ranking = rank(rule, scores)
    assert ranking.keys[0] == ranking.keys[3] < min(ranking.keys[1:3])
    assert not ranking.eligible[[0, 3]].any() and ranking.eligible[1]


def test_nothing_but_what_has_no_score():
    ranking = rank(Rule("min"), [None, None])
    assert ranking.keys[0] == ranking.keys[1] and not ranking.eligible.any()


def test_a_model_is_asked_what_it_can_be_asked():
    labels = {kind: [rule.label for rule in rules_for(kind, 2)] for kind in ("scalar", "urm", "ensemble")}
    assert labels == {
        "scalar": ["reward"],
        "urm": ["reward", "reward - 2 reward_std", "filtered by attribute_variance"],
        "ensemble": [
            "reward",
            "least member",
            "reward - 2 reward_epistemic",
            "reward - 2 reward_std",
            "filtered by reward_gap",
        ],
    }
    kinds = [read_kind(scores) for scores in (scalar([1.0]), urm([1.0], [1.0]), ensemble([[1.0, 2.0]]))]
    assert kinds == ["scalar", "urm", "ensemble"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "best"}, "must be one of reward, min, mean_minus_k_std, filtered, got 'best'"),
        ({"name": "filtered", "measure": "sigma"}, "`measure` must be one of attribute_variance, .* got 'sigma'"),
        ({"name": "min", "measure": "reward_std"}, "min looks at none"),
        ({"name": "mean_minus_k_std", "k": -1.0}, "`k` must be finite and not negative, got -1.0"),
        ({"name": "mean_minus_k_std", "k": float("nan")}, "`k` must be finite"),
        ({"name": "reward", "keep": 0.5}, "are of the rule \"filtered\", not of 'reward'"),
        ({"name": "filtered", "keep": 0.0}, r"must lie in \(0, 1\], got 0.0"),
        ({"name": "filtered", "threshold": float("nan")}, "`threshold` must not be negative, got nan"),
        ({"name": "filtered", "threshold": 1.0, "keep": 0.5}, "either `threshold` or `keep`"),
    ],
)
def test_settings_out_of_range_are_told(settings, message):
    with pytest.raises(ValueError, match=message):
        Rule(**settings)


@pytest.mark.parametrize(
    ("rule", "scores", "message"),
    [
        (Rule("min"), scalar([1.0]), "needs a URM or an ensemble"),
        (Rule("filtered"), scalar([1.0]), "needs a URM or an ensemble"),
        (Rule("min"), urm([1.0], [1.0]), "compares members"),
        (Rule("filtered", measure="reward_gap"), urm([1.0], [1.0]), "reward_gap compares members"),
        (Rule("filtered"), [RewardScore(reward=1.0, reward_std=1.0)], "the scores have no 'attribute_variance'"),
        (Rule("mean_minus_k_std", measure="covariance_norm"), urm([1.0], [1.0]), "in the unit of the reward"),
    ],
)
def test_a_model_that_cannot_be_asked_is_an_error(rule, scores, message):
    with pytest.raises(ValueError, match=message):
        rank(rule, scores)
