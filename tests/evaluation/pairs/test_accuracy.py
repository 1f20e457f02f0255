"""Accuracy of pairs, ties, intervals by prompt, and what rewards must be."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from urm_hf.evaluation.pairs.accuracy import accuracy_of, decide, judge, random_accuracy
from urm_hf.evaluation.pairs.data import preferences_of


def rows(count: int, subsets: str = "", prompts: int | None = None) -> list[dict]:
    found = [
        {"prompt": f"{n % (prompts or count)}?", "chosen": f"yes {n}", "rejected": f"no {n}"} for n in range(count)
    ]
    return [row | {"subset": subset} for row, subset in zip(found, subsets, strict=True)] if subsets else found


def rewards_of(outcomes: str) -> list[float]:
    """Chosen and rejected rewards of pairs that are won (+), lost (-) or tied (=)."""
    return [value for outcome in outcomes for value in {"+": (1, 0), "-": (0, 1), "=": (2, 2)}[outcome]]


def test_a_tie_is_wrong_and_reported():
    preferences = preferences_of(rows(5), "rows")
    accuracy, tied = accuracy_of(preferences, rewards_of("++-=="))
    assert (accuracy.metric, accuracy.value, accuracy.n, accuracy.prompts) == ("accuracy", 2 / 5, 5, 5)
    assert (tied.metric, tied.value, tied.interval) == ("tied", 2 / 5, None)
    assert decide(preferences, rewards_of("++-=="))[0].tolist() == [True, True, False, False, False]


def test_subsets_follow_the_overall_accuracy():
    preferences = preferences_of(rows(6, "aabbbb"), "rows")
    found = accuracy_of(preferences, rewards_of("+-+==-"))
    assert [(m.metric, m.level, m.group, round(m.value, 6), m.n) for m in found] == [
        ("accuracy", None, None, 0.333333, 6),
        ("accuracy", "subset", "a", 0.5, 2),
        ("accuracy", "subset", "b", 0.25, 4),
        ("tied", None, None, 0.333333, 6),
        ("tied", "subset", "a", 0.0, 2),
        ("tied", "subset", "b", 0.5, 4),
    ]


def test_the_interval_is_that_of_scipy_where_every_prompt_has_one_pair():
    won = np.random.default_rng(0).random(300) < 0.7
    preferences = preferences_of(rows(300), "rows")
    found = accuracy_of(preferences, np.stack([won, ~won], axis=1).ravel(), samples=5000)[0]
    theirs = bootstrap((won,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    assert found.interval == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_pairs_of_one_prompt_are_not_more_evidence():
    won = np.tile(np.random.default_rng(1).random(40) < 0.6, 5)
    rewards = np.stack([won, ~won], axis=1).ravel()
    apart = accuracy_of(preferences_of(rows(200), "rows"), rewards)[0]
    together = accuracy_of(preferences_of(rows(200, prompts=40), "rows"), rewards)[0]
    width = [measure.interval[1] - measure.interval[0] for measure in (apart, together)]
    assert width[1] / width[0] == pytest.approx(np.sqrt(5), rel=0.1)
    assert (apart.prompts, together.prompts) == (200, 40)


def test_the_same_seed_gives_the_same_intervals():
    preferences, rewards = preferences_of(rows(317), "rows"), np.random.default_rng(2).normal(size=634)
    assert accuracy_of(preferences, rewards, seed=3) == accuracy_of(preferences, rewards, seed=3)
    assert (
        accuracy_of(preferences, rewards, seed=3)[0].interval != accuracy_of(preferences, rewards, seed=4)[0].interval
    )


def overall(preferences, rewards, samples: int = 300):
    return accuracy_of(preferences, rewards, samples)[0], judge(preferences, rewards, samples)


def of_rewardbench(subsets: str, **kind) -> list[dict]:
    names = {"p": "hep-python", "n": "llmbar-natural", "g": "llmbar-adver-GPTInst", "m": "mine", "s": "shp"}
    return [row | {"subset": names[row["subset"]]} for row in rows(len(subsets), subsets)]


def of_rewardbench2() -> list[dict]:
    ties = [("tied:1", 2), ("ref:1", 1), ("tied:2", 3), ("ref:2", 1)]
    found = [{"id": name, "subset": "Ties", "chosen": ["a", "b", "c"][:n], "rejected": ["x", "y"]} for name, n in ties]
    found += [{"id": str(n), "subset": "Math", "chosen": ["a"], "rejected": ["x", "y", "z"]} for n in range(5)]
    return [row | {"prompt": f"{row['id'].split(':')[-1]} {row['subset']}?"} for row in found]


def of_rmbench() -> list[dict]:
    domains = ["chat", "code", "code", "safety-refuse"]
    return [
        {"prompt": f"{n}?", "chosen": [f"c{n}{k}" for k in range(3)], "rejected": [f"r{n}{k}" for k in range(3)]}
        | {"domain": domain}
        for n, domain in enumerate(domains)
    ]


@pytest.mark.parametrize(
    "preferences",
    [
        preferences_of(rows(40, "ab" * 20), "pairs"),
        preferences_of(of_rewardbench("ppppnnngggggggmm" * 2), "rewardbench", kind="rewardbench"),
        preferences_of(of_rewardbench2(), "rewardbench2"),
        preferences_of(of_rmbench(), "rmbench"),
    ],
    ids=lambda preferences: preferences.kind,
)
def test_what_decisions_add_is_the_accuracy_of_the_benchmark(preferences):
    """The accuracy, its samples and the rows behind it, of rewards with some ties."""
    rewards = np.random.default_rng(0).integers(0, 9, len(preferences.conversations))
    accuracy, found = overall(preferences, rewards)
    assert found.shares.sum() == pytest.approx(accuracy.value)
    assert np.quantile(found.draws, [0.025, 0.975]) == pytest.approx(accuracy.interval)
    assert (len(found.right), len(found.prompts)) == (accuracy.n, accuracy.n)
    assert len(set(found.prompts)) == accuracy.prompts


def test_what_is_in_no_section_is_not_compared():
    preferences = preferences_of(of_rewardbench("ppm"), "rb", kind="rewardbench")
    found = judge(preferences, rewards_of("+-+"))
    assert found.right.tolist() == [True, False] and found.shares.tolist() == [0.5, 0]


def test_chance_on_pairs_is_one_half_of_each_group():
    preferences = preferences_of(rows(3, "aab"), "rows")
    found = [(m.level, m.group, m.value, m.interval, m.n) for m in random_accuracy(preferences)]
    assert found == [(None, None, 0.5, None, 3), ("subset", "a", 0.5, None, 2), ("subset", "b", 0.5, None, 1)]
    assert preferences.remarks == []


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        ([1.0, 2.0], r"`rewards` must have shape \(4,\), one for each conversation, got \(2,\)"),
        ([1.0, 2.0, float("nan"), 0.0], "the reward of rows, row 1, chosen is nan; it must be finite"),
    ],
)
@pytest.mark.parametrize("measure", [accuracy_of, decide, judge])
def test_bad_rewards_are_named(measure, rewards, message):
    with pytest.raises(ValueError, match=message):
        measure(preferences_of(rows(2), "rows"), rewards)
