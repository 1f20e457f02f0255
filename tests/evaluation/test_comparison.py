"""Paired tests against scipy and against all flips of all signs."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import binomtest, permutation_test

from urm_hf.evaluation.comparison import (
    MCNEMAR,
    SAMPLED_FLIPS,
    SIGN_FLIPS,
    JudgedModel,
    compare_decisions,
    compare_losses,
    holm,
    mcnemar_p_value,
    sampled_flip_p_value,
    sign_flip_p_value,
)
from urm_hf.statistics.bootstrap import rows_by_group

RNG = np.random.default_rng(0)
RIGHT = {"a": RNG.random(80) < 0.75, "b": RNG.random(80) < 0.6, "c": RNG.random(80) < 0.55}
PROMPTS = [f"prompt {i}" for i in range(80)]


def judged(right, prompts=PROMPTS, weights=None, samples=20) -> JudgedModel:
    """Decisions that count alike, or by weights; samples of prompts are drawn here once more."""
    right = np.array(right, bool)
    shares = right * (np.full(len(right), 1 / len(right)) if weights is None else weights)
    clusters, rng = rows_by_group(prompts), np.random.default_rng(5)
    drawn = (
        np.concatenate([clusters[k] for k in rng.integers(0, len(clusters), len(clusters))]) for _ in range(samples)
    )
    draws = [shares[rows].sum() * len(right) / len(rows) for rows in drawn]
    return JudgedModel(right, shares, list(prompts), np.array(draws))


def compare(decisions, prompts=PROMPTS, weights=None, samples=20, baselines=()) -> list[dict]:
    return compare_decisions({n: judged(v, prompts, weights, samples) for n, v in decisions.items()}, baselines)


def over_all_flips(differences) -> float:
    sums = [abs(np.dot(differences, signs)) for signs in product([1, -1], repeat=len(differences))]
    return np.mean(np.array(sums) >= abs(np.sum(differences)) - 1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_sign_flips_are_those_of_all_signs(seed):
    differences = np.random.default_rng(seed).integers(-4, 6, 9)
    assert sign_flip_p_value(differences) == pytest.approx(over_all_flips(differences))


@pytest.mark.parametrize("seed", range(3))
def test_sign_flips_are_those_of_scipy(seed):
    differences = np.random.default_rng(seed).integers(-2, 4, 10).astype(float)
    exact = permutation_test((differences,), np.sum, permutation_type="samples", n_resamples=10_000)
    assert sign_flip_p_value(differences) == pytest.approx(exact.pvalue)
    assert sampled_flip_p_value(differences) == pytest.approx(exact.pvalue)


@pytest.mark.parametrize("only_a, only_b", [(13, 4), (5, 5), (30, 3), (1, 0)])
def test_with_one_item_to_a_prompt_sign_flips_are_mcnemar_s_test(only_a, only_b):
    expected = binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar_p_value(only_a, only_b) == pytest.approx(expected)
    assert sign_flip_p_value(np.array([1] * only_a + [-1] * only_b + [0] * 7)) == pytest.approx(expected)


def test_models_that_never_differ_are_not_different():
    assert mcnemar_p_value(0, 0) == 1 == sign_flip_p_value(np.zeros(4)) == sampled_flip_p_value(np.zeros(4))
    found = compare({"a": RIGHT["a"], "b": RIGHT["a"]})[0]
    assert (found.difference, found.p_value, found.interval) == (0, 1, None)


def test_strong_evidence_keeps_its_digits():
    assert sign_flip_p_value(np.ones(200)) == pytest.approx(2.0**-199)


def test_an_entry_says_what_was_compared():
    found = compare({"a": RIGHT["a"], "b": RIGHT["b"]}, samples=3000)[0]
    a, b = RIGHT["a"], RIGHT["b"]
    only_a, only_b = (a & ~b).sum(), (b & ~a).sum()
    assert (found.model_a, found.model_b, found.n, found.prompts) == ("a", "b", 80, 80)
    assert (found.only_a, found.only_b) == (only_a, only_b)
    assert found.difference == pytest.approx(a.mean() - b.mean())
    assert (found.p_value, found.test) == (pytest.approx(binomtest(only_a, only_a + only_b).pvalue), MCNEMAR)
    assert found.p_adjusted == found.p_value
    d = a.astype(float) - b
    half = 1.96 * d.std() / np.sqrt(80)
    assert found.interval == pytest.approx([d.mean() - half, d.mean() + half], abs=0.02)


def test_items_of_one_prompt_are_tested_together():
    """Every item four times: no evidence is added, and the exact test of items alone would find some."""
    once = compare({"a": RIGHT["a"], "b": RIGHT["b"]}, samples=500)[0]
    four = compare({m: np.tile(RIGHT[m], 4) for m in "ab"}, PROMPTS * 4, samples=500)[0]
    assert (four.test, four.n, four.prompts) == (SIGN_FLIPS, 320, 80)
    assert four.p_value == pytest.approx(once.p_value)
    assert four.interval == pytest.approx(once.interval)
    assert mcnemar_p_value(four.only_a, four.only_b) < four.p_value / 2


def test_one_prompt_proves_nothing():
    found = compare({"a": [1, 1, 1, 1], "b": [0, 0, 0, 0]}, ["x"] * 4)[0]
    assert (found.p_value, found.interval, found.difference) == (1, None, 1)


def test_every_two_models_are_compared_and_p_values_adjusted_for_all():
    found = compare(RIGHT)
    assert [(one.model_a, one.model_b) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [one.p_adjusted for one in found] == holm([one.p_value for one in found])


def holm_by_hand(p_values) -> list[float]:
    """A comparison's adjusted value: the smallest level at which Holm's procedure, step by step, rejects it."""
    levels = sorted({min(1.0, p * k) for p in p_values for k in range(1, len(p_values) + 1)} | {1.0})

    def rejected(level):
        out, rest = set(), sorted(range(len(p_values)), key=lambda i: p_values[i])
        while rest and p_values[rest[0]] * len(rest) <= level + 1e-15:
            out.add(rest.pop(0))
        return out

    return [next((level for level in levels if i in rejected(level)), 1.0) for i in range(len(p_values))]


@pytest.mark.parametrize("p_values", [[0.01, 0.04, 0.03, 0.005], [0.5, 0.5, 0.9], [0.2], [], [1e-9, 0.6, 0.02, 0.02]])
def test_adjusted_p_values_are_those_of_holm_s_steps(p_values):
    assert holm(p_values) == pytest.approx(holm_by_hand(p_values))


def test_losses_are_compared_by_their_mean_and_by_prompt():
    rng = np.random.default_rng(1)
    base = rng.normal(size=60)
    better = base - 0.3 + 0.1 * rng.normal(size=60)
    found = compare_losses({"a": better, "b": base}, PROMPTS[:60], "nll", samples=500)[0]
    assert found.difference == pytest.approx((better - base).mean()) and found.metric == "nll"
    assert found.interval[0] < found.difference < found.interval[1] < 0
    assert found.p_value < 0.001 and found.only_a is None
    few = compare_losses({"a": better[:8], "b": base[:8] - 0.25}, list("ababcdef"), "nll", samples=5)[0]
    d = better[:8] - base[:8] + 0.25
    by_prompt = [d[0] + d[2], d[1] + d[3], *d[4:]]
    assert few.p_value == pytest.approx(over_all_flips(by_prompt))


def test_what_counts_more_weighs_more_in_the_difference_and_in_the_test():
    """Of two parts, one of 4 and one of 8 decisions, each half of the accuracy."""
    weights, prompts = np.repeat([1 / 8, 1 / 16], [4, 8]), PROMPTS[:12]
    a, b = np.array([1, 1, 1, 0] + [0] * 5 + [1] * 3), np.array([0, 0, 1, 1] + [1] * 3 + [0] * 5)
    found = compare({"a": a, "b": b}, prompts, weights)[0]
    assert found.difference == pytest.approx((3 / 4 + 3 / 8) / 2 - (2 / 4 + 3 / 8) / 2)
    assert (found.test, found.only_a, found.only_b) == (SIGN_FLIPS, 5, 4)
    assert found.p_value == pytest.approx(over_all_flips((a - b) * weights))
    uneven = np.where(weights == 1 / 8, np.sqrt(2) / 8, 1 / 16)
    found = compare({"a": a, "b": b}, prompts, uneven)[0]
    assert found.test == SAMPLED_FLIPS
    assert found.p_value == pytest.approx(over_all_flips((a - b) * uneven))  # so few that all are gone through


def test_models_and_baselines_are_two_families():
    found = compare(
        {**RIGHT, "rule": RNG.random(80) < 0.5, "guess": RNG.random(80) < 0.5}, baselines=["rule", "guess"]
    )
    pairs = [(one.model_a, one.model_b) for one in found]
    assert ("rule", "guess") not in pairs and len(pairs) == 3 + 2 * 3
    for family in (
        [one for one in found if one.model_b in RIGHT],
        [one for one in found if one.model_b not in RIGHT],
    ):
        assert [one.p_adjusted for one in family] == pytest.approx(holm_by_hand([one.p_value for one in family]))


@pytest.mark.parametrize(
    "other, prompts",
    [([1, 0], ["x", "y", "z"]), ([1, 0, 0], ["x", "y", "other"]), ([], [])],
)
def test_decisions_of_other_rows_are_not_compared(other, prompts):
    two = {
        "a": judged([1, 0, 1], ["x", "y", "z"]),
        "b": JudgedModel(np.array(other, bool), np.array(other), prompts, np.ones(20)),
    }
    if len(other) == 2:
        two["b"] = JudgedModel(np.array(other, bool), np.array(other), prompts[:2], np.ones(20))
    with pytest.raises(ValueError, match="a has 3 decisions and b has .*: the same ones"):
        compare_decisions(two)


@pytest.mark.parametrize(
    "losses, prompts, told",
    [
        ({"a": [1, 0], "b": [1]}, ["x", "y"], r"b has values of shape \(1,\), for 2 rows"),
        ({"a": [1, float("nan")], "b": [1, 0]}, ["x", "y"], "a has nan in row 1"),
        ({"a": [], "b": []}, [], "for 0 rows"),
    ],
)
def test_bad_losses_are_named(losses, prompts, told):
    with pytest.raises(ValueError, match=told):
        compare_losses(losses, prompts, "nll")
