"""Probabilities against scikit-learn, scipy and definitions written out."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import binom, binomtest, norm
from sklearn.metrics import brier_score_loss, log_loss

from tests.helpers.made_scores import scalar_pairs, table, urm_pairs
from urm_hf.evaluation.pairs.calibration import (
    BINS,
    build_reliability_curve,
    calibration,
    calibration_error,
    compute_evidence,
    error_of_perfect,
    wilson_interval,
)
from urm_hf.evaluation.pairs.temperature import LINKS, crossfitted, fit_temperature
from urm_hf.uncertainty.measures import compute_preference_probability

RNG = np.random.default_rng(0)
MARGINS = RNG.normal(0.6, 1.5, 400)
STDS = RNG.uniform(0.3, 2, (2, 400))


def ece_by_hand(confidence, right) -> float:
    """Bins (1/2, 1/2 + 1/30], ..., written out."""
    total = 0.0
    for number in range(BINS):
        low, high = 0.5 + number / (2 * BINS), 0.5 + (number + 1) / (2 * BINS)
        inside = [i for i, c in enumerate(confidence) if low < c <= high or (number == 0 and c == 0.5)]
        if inside:
            accuracy = sum(bool(right[i]) for i in inside) / len(inside)
            total += len(inside) * abs(accuracy - sum(confidence[i] for i in inside) / len(inside))
    return total / len(right)


def ece(confidence, right) -> float:
    return calibration_error(confidence, right, np.ones((1, len(right)))).item()


def test_brier_and_nll_are_those_of_sklearn_whichever_side_comes_first():
    p = expit(MARGINS)
    first = RNG.random(400) < 0.5  # the chosen answer
    found = table(calibration(scalar_pairs(MARGINS), samples=0))
    outcome, probability = first.astype(int), np.where(first, p, 1 - p)
    assert found["brier", "logistic", None].value == pytest.approx(brier_score_loss(outcome, probability))
    assert found["nll", "logistic", None].value == pytest.approx(log_loss(outcome, probability))


def test_gaussian_probabilities_are_those_of_compute_preference_probability():
    pairs = urm_pairs(MARGINS, *STDS)
    p = compute_preference_probability(pairs.chosen, pairs.rejected)
    assert norm.cdf(compute_evidence(pairs)["gaussian"]) == pytest.approx(p, abs=1e-12)
    found = table(calibration(pairs, samples=0))
    assert found["brier", "gaussian", None].value == pytest.approx(np.square(1 - p).mean())
    z = MARGINS / np.sqrt(STDS[0] ** 2 + STDS[1] ** 2)
    assert found["nll", "gaussian", None].value == pytest.approx(-norm.logcdf(z).mean())
    assert found["ece", "gaussian", None].value == pytest.approx(ece_by_hand(np.maximum(p, 1 - p), MARGINS > 0))


def test_nll_is_not_clipped():
    found = table(calibration(scalar_pairs([-900.0, 1.0]), samples=0))
    assert found["nll", "logistic", None].value == pytest.approx((900 - math.log(expit(1))) / 2)


def test_ece_is_that_written_out():
    p = expit(MARGINS)
    confidence = np.maximum(p, 1 - p)
    found = table(calibration(scalar_pairs(MARGINS), samples=0))["ece", "logistic", None]
    assert found.value == pytest.approx(ece_by_hand(confidence, MARGINS > 0))


@pytest.mark.parametrize("edge", [0.5, 0.5 + 1 / 30, 0.8, 1.0])
def test_edges_belong_to_the_bin_below(edge):
    edges = np.linspace(0.5, 1, BINS + 1)
    edge = edges[np.abs(edges - edge).argmin()]
    below, above = max(0.5, edge - 0.01), min(1.0, edge + 0.01)
    confidence, right = np.array([edge, below, above]), np.array([True, False, False])
    together = abs(1 - edge - below) / 3 + above / 3
    if edge == 0.5:  # the first bin has both ends
        together = abs(1 - 3 * 0.5 - 0.01) / 3
    elif edge == 1.0:
        together = abs(1 - 2 - below) / 3
    assert ece(confidence, right) == pytest.approx(together)


def test_a_perfect_half_and_half_has_no_error_and_a_boast_has_its_size():
    right = np.array([True] * 9 + [False])
    assert ece(np.full(10, 0.9), right) == pytest.approx(0)
    assert ece(np.full(10, 0.99), right) == pytest.approx(0.09)


def test_counts_are_repetitions():
    confidence, right = expit(np.abs(MARGINS)), MARGINS > 0
    counts = RNG.integers(0, 4, (3, 400))
    expected = [ece_by_hand(np.repeat(confidence, row), np.repeat(right, row)) for row in counts]
    assert calibration_error(confidence, right, counts) == pytest.approx(expected)


def test_ties_say_one_half_and_are_wrong():
    found = calibration(scalar_pairs([0.0] * 6), samples=50)
    values = table(found)
    assert values["brier", "logistic", None].value == 0.25
    assert values["nll", "logistic", None].value == pytest.approx(math.log(2))
    assert values["ece", "logistic", None].value == 0.5
    assert found.absent["temperature (logistic)"] == "all margins are 0"
    assert not any(one.variant == "logistic, tempered" for one in found.metrics)


def test_a_tie_is_wrong_beside_what_is_barely_right():
    found = table(calibration(scalar_pairs([0.0, 0.0, 1e-9, 1e-9]), samples=0))
    assert found["ece", "logistic", None].value == pytest.approx(0, abs=1e-8)


def test_tempered_probabilities_are_of_temperatures_from_other_prompts():
    pairs = scalar_pairs(MARGINS, [f"prompt {i % 90}" for i in range(400)])
    found = table(calibration(pairs, samples=0, seed=3))
    clusters = [np.flatnonzero(np.arange(400) % 90 == i) for i in range(90)]
    p = expit(MARGINS / crossfitted(MARGINS, LINKS["logistic"], clusters, seed=3))
    assert found["brier", "logistic, tempered", None].value == pytest.approx(np.square(1 - p).mean())
    assert found["nll", "logistic, tempered", None].value == pytest.approx(-np.log(p).mean())
    assert found["ece", "logistic, tempered", None].value == pytest.approx(
        ece_by_hand(np.maximum(p, 1 - p), MARGINS > 0)
    )
    assert found["temperature", "logistic", None].value == pytest.approx(
        fit_temperature(MARGINS, LINKS["logistic"]).value
    )


def test_temperature_mends_what_is_only_a_matter_of_scale():
    """Outcomes follow sigmoid(d), the model says sigmoid(4 d)."""
    true = np.random.default_rng(5).normal(0, 1.5, 3000)
    margins = 4 * np.where(np.random.default_rng(6).random(3000) < expit(true), true, -true)
    found = table(calibration(scalar_pairs(margins), samples=60))
    low, high = found["temperature", "logistic", None].interval
    assert low < 4 < high and high - low < 1
    assert found["ece", "logistic, tempered", None].value < 0.04 < 0.1 < found["ece", "logistic", None].value
    assert found["ece", "logistic, tempered", None].interval[0] == 0 < found["ece", "logistic", None].interval[0]


def test_pairs_without_any_variance_are_certain_and_have_no_likelihood():
    stds = np.ones(4)
    stds[1:3] = 0
    found = calibration(urm_pairs([1.0, -1.0, 2.0, -0.5], stds, stds), samples=50)
    values = table(found)
    p = np.array([norm.cdf(2**-0.5), 0, 1, norm.cdf(-0.5 * 2**-0.5)])
    assert values["brier", "gaussian", None].value == pytest.approx(np.square(1 - p).mean())
    assert ("nll", "gaussian", None) not in values
    assert found.absent["nll (gaussian)"].startswith("1 pairs are given the probability 0")
    assert found.absent["temperature (gaussian)"].startswith("2 pairs have no variance")
    assert ("nll", "logistic", None) in values


@pytest.mark.parametrize(
    "margins, prompts, told",
    [
        ([1.0, 2.0, 0.1], None, "no pair is wrong"),
        ([-1.0, -2.0, 0.1], None, "no better than chance"),
        ([1.0, -2.0, 3.0], ["x"] * 3, "one prompt only"),
        ([1.0], None, "one prompt only"),
    ],
)
def test_what_has_no_temperature_says_why_and_nothing_is_nan(margins, prompts, told):
    found = calibration(scalar_pairs(margins, prompts), samples=40)
    assert told in found.absent["temperature (logistic)"]
    assert ("temperature", "logistic", None) not in table(found)
    numbers = [[one.value, one.interval] for one in found.metrics]
    json.dumps([numbers, [asdict(curve) for curve in found.curves]], allow_nan=False)


def test_scalar_models_have_logistic_probabilities_only():
    found = calibration(scalar_pairs(MARGINS), samples=0)
    assert {one.variant for one in found.metrics} == {"logistic", "logistic, tempered"}
    assert [curve.variant for curve in found.curves] == ["logistic", "logistic, tempered"]


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    found = table(calibration(scalar_pairs(MARGINS), samples=3000))["brier", "logistic", None]
    losses = np.square(1 - expit(MARGINS))
    half = 1.96 * losses.std() / 20
    assert found.interval == pytest.approx((losses.mean() - half, losses.mean() + half), abs=0.002)
    assert (found.n, found.prompts) == (400, 400)


def test_repeating_every_pair_of_a_prompt_narrows_no_interval():
    prompts = [f"prompt {i}" for i in range(400)]
    once = table(calibration(scalar_pairs(MARGINS, prompts), samples=200))
    many = table(calibration(scalar_pairs(np.tile(MARGINS, 5), prompts * 5), samples=200))
    for key in [("brier", "logistic", None), ("nll", "logistic", None), ("ece", "logistic", None)]:
        assert many[key].interval == pytest.approx(once[key].interval, rel=1e-6)
        assert many[key].value == pytest.approx(once[key].value)
        assert (many[key].n, many[key].prompts) == (2000, 400)
    key = ("temperature", "logistic", None)
    assert many[key].interval == pytest.approx(once[key].interval, rel=1e-4)


def test_the_error_of_perfect_probabilities_is_that_of_outcomes_drawn_from_them():
    confidence = np.random.default_rng(1).uniform(0.5, 1, 120)
    rng = np.random.default_rng(2)
    expected = np.mean([ece_by_hand(confidence, rng.random(120) < confidence) for _ in range(300)])
    found = error_of_perfect(confidence, [str(i) for i in range(120)], 300, seed=3)
    assert found.mean() == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("prompts", [8, 40])
def test_the_error_of_perfect_probabilities_counts_pairs_of_a_prompt_as_one(prompts):
    """All in one bin: E|K / M - p| with K ~ Binomial(M, p), whatever the number of pairs."""
    k = np.arange(prompts + 1)
    expected = (binom.pmf(k, prompts, 0.8) * np.abs(k / prompts - 0.8)).sum()
    found = error_of_perfect(np.full(120, 0.8), [str(i % prompts) for i in range(120)], 4000, seed=3)
    assert found.mean() == pytest.approx(expected, rel=0.05)


def test_the_interval_of_an_error_reaches_zero_where_probabilities_are_perfect_and_holds_its_value():
    reached = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        true = rng.normal(0, 1.5, 300)
        margins = np.where(rng.random(300) < expit(true), true, -true)
        found = table(calibration(scalar_pairs(margins), samples=40, seed=seed))
        one = found["ece", "logistic", None]
        assert one.interval[0] <= one.value <= one.interval[1]
        reached += one.interval[0] == 0
    assert reached >= 18


def test_the_curve_has_the_pairs_and_the_error_of_the_metric():
    pairs = scalar_pairs(MARGINS)
    found = calibration(pairs, samples=0)
    curve = found.curves[0]
    assert curve.curve == "reliability" and sum(curve.n) == 400 and len(curve.n) <= BINS
    x, y, n = (np.array(getattr(curve, name)) for name in "xyn")
    assert (n * np.abs(y - x)).sum() / 400 == pytest.approx(table(found)["ece", "logistic", None].value)
    assert (np.diff(x) > 0).all() and (x >= 0.5).all()
    assert (np.array(curve.low) <= y).all() and (y <= np.array(curve.high)).all()


@pytest.mark.parametrize("right, trials", [(0, 5), (5, 5), (3, 8), (70, 90)])
def test_wilson_s_interval_is_that_of_scipy(right, trials):
    exact = binomtest(right, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / trials, trials) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_pairs_of_one_prompt_count_as_one_in_the_curve():
    confidence, right = np.full(12, 0.8), np.array([True, True, True, False] * 3)
    once = build_reliability_curve(confidence[:4], right[:4], list("abcd"))
    many = build_reliability_curve(confidence, right, list("abcd") * 3)
    assert (many.low, many.high) == (pytest.approx(once.low), pytest.approx(once.high))
    assert (once.n, many.n) == ([4], [12])
