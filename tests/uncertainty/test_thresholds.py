"""The promise of a fitted threshold, on data whose true error is known."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from tests.helpers.made_uncertainties import scores_with
from urm_hf.uncertainty.filtering import FittedThreshold, filter_pairs, filter_values, fit_threshold
from urm_hf.uncertainty.measures import compute_uncertainty

REPETITIONS = 1000


# The promise


def rising(u):
    return 0.02 + 0.4 * u**2


def step(u):
    return np.where(u < 0.6, 0.03, 0.5)


def misleading(u):
    return 0.3 * (1 - u)


def flat(u):
    return np.full_like(u, 0.1001)


def true_error(rate, threshold: float) -> float:
    """P(wrong | u <= threshold) for u uniform on [0, 1]."""
    grid = (np.arange(20_000) + 0.5) / 20_000
    return rate(grid[grid <= threshold]).mean()


def repeat(rate, n: int, seed: int, **kwargs) -> tuple[int, list[float]]:
    """How often the promise was broken, and the shares kept, over repetitions of drawing and fitting."""
    generator = np.random.default_rng(seed)
    broken, shares = 0, []
    for _ in range(REPETITIONS):
        u = generator.random(n)
        correct = generator.random(n) >= rate(u)
        threshold = fit_threshold(u, correct, **kwargs).threshold
        shares.append(0.0 if threshold is None else min(threshold, 1.0))
        broken += threshold is not None and true_error(rate, threshold) > kwargs.get("target_error", 0.1)
    return broken, shares


def not_above(broken: int, repetitions: int, rate: float) -> bool:
    """Whether this many of so many repetitions agree with a probability of at most `rate`."""
    return binomtest(broken, repetitions, rate, alternative="greater").pvalue > 1e-3


@pytest.mark.parametrize("rate", [rising, step, misleading, flat])
def test_the_promise_is_kept_whatever_the_measure_is_worth(rate):
    broken, _ = repeat(rate, n=600, seed=0)
    assert not_above(broken, REPETITIONS, 0.05), broken


@pytest.mark.parametrize("rate", [rising, step, misleading, flat])
def test_a_fixed_sequence_keeps_the_promise_too(rate):
    broken, _ = repeat(rate, n=600, seed=6, testing="fixed_sequence")
    assert not_above(broken, REPETITIONS, 0.05), broken


@pytest.mark.parametrize("rate", [rising, step])
def test_a_fixed_sequence_keeps_more_where_the_measure_sorts_well(rate):
    (_, together), (_, in_turn) = (
        repeat(rate, n=600, seed=7, testing=name) for name in ("bonferroni", "fixed_sequence")
    )
    assert np.mean(in_turn) > 1.05 * np.mean(together)


def test_a_fixed_sequence_ends_at_the_first_share_that_fails():
    """Later ones would pass, and are not looked at: that is what the full level of each rests on."""
    u = np.arange(1000) / 1000
    wrong = (u < 0.3) & (np.arange(1000) % 5 == 0)  # of the surest 30 % a fifth is wrong, of the others none
    fitted = fit_threshold(u, ~wrong, testing="fixed_sequence")
    assert fitted.threshold is None and [row.share for row in fitted.candidates] == [0.3]
    assert fit_threshold(u, ~wrong, testing="fixed_sequence", shares=[1.0, 0.9]).chosen.share == 1.0
    of_the_rest_half = (u >= 0.7) & (np.arange(1000) % 2 == 0)
    surest_first = fit_threshold(u, ~of_the_rest_half, testing="fixed_sequence")
    *passed, failed = surest_first.candidates
    assert surest_first.chosen == passed[-1] and failed.upper_bound > 0.1
    for row in surest_first.candidates:  # each at the full level
        exact = binomtest(row.n_errors, row.n_kept, alternative="less").proportion_ci(0.95, method="exact")
        assert row.upper_bound == pytest.approx(exact.high, rel=1e-6)


def test_the_promise_is_tight_where_one_share_is_tested():
    # the error is a hair above the target, so that every threshold breaks the promise: as often as is allowed
    broken, _ = repeat(flat, n=2000, seed=1, shares=[0.5], confidence=0.8)
    assert not_above(broken, REPETITIONS, 0.2) and binomtest(broken, REPETITIONS, 0.2).pvalue > 1e-3, broken


@pytest.mark.parametrize(("rate", "best"), [(rising, 0.77), (step, 0.70)])
def test_much_of_what_could_be_kept_is_kept(rate, best):
    assert true_error(rate, best) == pytest.approx(0.1, abs=0.005)  # nothing more may be kept
    _, shares = repeat(rate, n=2000, seed=2)
    assert np.mean(shares) > 0.75 * best


def test_a_measure_of_few_values_keeps_the_promise():
    generator = np.random.default_rng(3)
    rates, broken = np.array([0.05, 0.0999, 0.1001, 0.2]), 0
    for _ in range(REPETITIONS):
        u = generator.integers(0, 4, 800)
        found = fit_threshold(u, generator.random(800) >= rates[u]).threshold
        broken += found is not None and rates[: int(min(found, 3.0)) + 1].mean() > 0.1
    assert not_above(broken, REPETITIONS, 0.05), broken


def test_pairs_of_one_prompt_count_once():
    generator = np.random.default_rng(4)
    broken = {True: 0, False: 0}
    prompts = np.repeat(np.arange(100), 10)
    for seed in range(300):
        u = np.repeat(generator.random(100), 10) + generator.random(1000) * 1e-6
        correct = np.repeat(generator.random(100) >= 0.1001, 10)
        for grouped in broken:
            fitted = fit_threshold(u, correct, groups=list(prompts) if grouped else None, seed=seed)
            broken[grouped] += fitted.threshold is not None
    assert fitted.n == 1000 and fit_threshold(u, correct, groups=list(prompts)).n == 100
    assert not_above(broken[True], 300, 0.05), broken
    assert broken[False] > 60  # what happens to who does not say which pairs belong together


def test_bounds_are_those_of_clopper_and_pearson():
    generator = np.random.default_rng(5)
    u = generator.random(400)
    wrong = generator.random(400) < rising(u)
    fitted = fit_threshold(u, ~wrong)
    assert [row.share for row in fitted.candidates] == [0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    for row in fitted.candidates:
        kept = u <= row.threshold
        assert (row.n_kept, row.n_errors) == (kept.sum(), wrong[kept].sum())
        assert row.n_kept == (400 if row.share == 1 else round(row.share * 400) - 1)
        test = binomtest(row.n_errors, row.n_kept, alternative="less")
        assert row.upper_bound == pytest.approx(test.proportion_ci(1 - 0.05 / 9, method="exact").high, rel=1e-6)
    passing = [row for row in fitted.candidates if row.upper_bound <= 0.1]
    assert fitted.chosen == passing[-1] and fitted.threshold == passing[-1].threshold
    assert f"| {fitted.chosen.share:.0%} (chosen) |" in str(fitted)


def test_shares_that_could_not_pass_cost_nothing():
    # 29 pairs without an error are the fewest that show at most 10 % with confidence 0.95: 0.9^29 < 0.05 < 0.9^28
    fitted = fit_threshold(np.arange(29.0), np.ones(29))
    assert [row.share for row in fitted.candidates] == [1.0] and fitted.threshold == math.inf
    none = fit_threshold(np.arange(28.0), np.ones(28))
    assert none.threshold is None and "28 pairs are too few: even without an error, 29 or more" in none.reason


def test_a_fitted_threshold_filters():
    u = np.linspace(0, 1, 1000)
    fitted = fit_threshold(u, step(u) < 0.1)
    filtered = filter_values(u, threshold=fitted)
    assert filtered.n_kept == fitted.chosen.n_kept == 599
    chosen, rejected = scores_with(u), scores_with(u[::-1])
    pairs = filter_pairs(chosen, rejected, "reward_std", threshold=fitted)
    assert pairs.n_kept == (compute_uncertainty(chosen, "reward_std").clip(1 - u) <= fitted.threshold).sum()


def test_no_threshold_cannot_be_mistaken_for_one():
    u = np.linspace(0, 1, 500)
    fitted = fit_threshold(u, np.arange(500) % 3 > 0)
    assert fitted.threshold is None and fitted.chosen is None
    assert "no share passes" in fitted.reason and fitted.reason in str(fitted)
    with pytest.raises(ValueError, match="No threshold was found that keeps the promise: no share passes"):
        filter_values(u, threshold=fitted)
    with pytest.raises(ValueError, match="either `threshold` or `keep`"):
        filter_values(u, threshold=fitted.threshold)


def test_a_constant_measure_keeps_all_or_nothing():
    ones = np.ones(500)
    assert fit_threshold(ones, np.arange(500) % 50 > 0).threshold == math.inf
    none = fit_threshold(ones, np.arange(500) % 5 > 0)
    assert none.threshold is None and [row.n_kept for row in none.candidates[:-1]] == [0] * (len(none.candidates) - 1)
    assert isinstance(none, FittedThreshold) and "nan" in str(none)


@pytest.mark.parametrize(
    ("values", "correct", "arguments", "message"),
    [
        ([1.0], [True, False], {}, "one length, got 1 and 2"),
        ([1.0, math.nan], [1, 0], {}, r"not finite in rows \[1\]"),
        ([1.0, 2.0], [1.0, math.nan], {}, "true or false"),
        ([1.0, 2.0], [0.3, 0.9], {}, "true or false"),
        ([1.0, 2.0], [1, 0], {"target_error": 10}, "`target_error` must lie between 0 and 1, got 10"),
        ([1.0, 2.0], [1, 0], {"confidence": 1.0}, "`confidence` must lie between 0 and 1, got 1.0"),
        ([1.0, 2.0], [1, 0], {"shares": [0.5, 50]}, "`shares` must lie in"),
        ([1.0, 2.0], [1, 0], {"shares": []}, "`shares` must lie in"),
        ([1.0, 2.0], [1, 0], {"testing": "holm"}, "`testing` must be one of bonferroni, fixed_sequence, got 'holm'"),
        ([1.0, 2.0], [1, 0], {"groups": ["a"]}, "entry for each of the 2 pairs, got 1"),
    ],
)
def test_what_cannot_be_fitted(values, correct, arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_threshold(values, correct, **arguments)


# a promise for a number of new pairs


def largest_share_not_excluded(errors: int, n: int, new: int, delta: float) -> float:
    """By counting which of all placements of the errors leave so few among the first n of n + new pairs."""
    largest = 0
    for wrong in range(new + 1):
        placements = list(itertools.combinations(range(n + new), errors + wrong))
        as_lucky = sum(sum(place < n for place in placement) <= errors for placement in placements)
        if as_lucky / len(placements) > delta:
            largest = wrong
    return largest / new


@pytest.mark.parametrize("errors", [0, 1, 3])
@pytest.mark.parametrize("delta", [0.05, 0.3])
def test_the_bound_for_new_pairs_counts_placements_of_errors(errors, delta):
    fitted = fit_threshold(
        np.zeros(8), np.arange(8) >= errors, target_error=0.9, confidence=1 - delta, shares=[1.0], new_pairs=6
    )
    assert fitted.candidates[0].upper_bound == largest_share_not_excluded(errors, 8, 6, delta)


@pytest.mark.parametrize("error, target", [(0.42, 0.45), (0.09, 0.1)])
def test_halves_of_one_set_of_pairs_keep_the_promise(error, target):
    """Where a measure says nothing and the error is just below the target: the hardest case."""
    rng, broken = np.random.default_rng(0), 0
    for _ in range(200):
        wrong, values = rng.random(600) < error, rng.random(600)
        fitted = fit_threshold(values[:300], ~wrong[:300], target_error=target, new_pairs=300)
        if fitted.threshold is not None:
            broken += wrong[300:][values[300:] <= fitted.threshold].mean() > target
    assert broken <= 10


def test_a_promise_for_few_pairs_is_harder_to_give_than_for_all():
    values, correct = np.arange(400) / 400, np.arange(400) % 20 > 0
    bounds = [
        [candidate.upper_bound for candidate in fit_threshold(values, correct, shares=[1.0], new_pairs=new).candidates]
        for new in (100, 1000, 10**6, None)
    ]
    assert bounds == sorted(bounds, reverse=True) and bounds[2][0] == pytest.approx(bounds[3][0], abs=1e-3)


def test_a_number_of_new_pairs_must_be_positive():
    with pytest.raises(ValueError, match="`new_pairs` must be positive, got 0"):
        fit_threshold(np.arange(50), np.ones(50), new_pairs=0)
