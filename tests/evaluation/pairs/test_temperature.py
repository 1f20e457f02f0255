"""Temperatures against logistic regression, and that no pair has a part in its own."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression

from urm_hf.evaluation.pairs.temperature import LINKS, REACH, crossfitted, fit_temperature
from urm_hf.statistics.bootstrap import rows_by_group

LOGISTIC, GAUSSIAN = LINKS["logistic"], LINKS["gaussian"]


def evidence(count: int = 300, seed: int = 0) -> np.ndarray:
    """Right more often than not, of varying size."""
    return np.random.default_rng(seed).normal(0.7, 2, count)


def test_it_is_the_inverse_slope_of_a_logistic_regression_without_intercept():
    e = evidence()
    both = np.concatenate([e, -e])  # either side may be the first: the outcome is that the chosen one wins
    outcome = np.repeat([1, 0], len(e))
    regression = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(both[:, None], outcome)
    assert fit_temperature(e, LOGISTIC).value == pytest.approx(1 / regression.coef_.item(), rel=1e-4)


def test_the_gaussian_one_is_of_the_highest_likelihood_of_scipy_s_normal():
    e = evidence()
    best = minimize(lambda slope: -norm.logcdf(slope * e).sum(), x0=[1.0], tol=1e-12)
    assert fit_temperature(e, GAUSSIAN).value == pytest.approx(1 / best.x.item(), rel=1e-4)


@pytest.mark.parametrize("link", LINKS.values())
@pytest.mark.parametrize("factor", [1e-4, 0.5, 300.0])
def test_the_unit_of_the_evidence_only_scales_it(link, factor):
    e = evidence()
    assert fit_temperature(factor * e, link).value == pytest.approx(factor * fit_temperature(e, link).value, rel=1e-4)


def test_counts_are_repetitions():
    e, counts = evidence(60), np.random.default_rng(1).integers(0, 4, 60)
    assert fit_temperature(e, LOGISTIC, counts).value == pytest.approx(
        fit_temperature(np.repeat(e, counts), LOGISTIC).value, rel=1e-4
    )


@pytest.mark.parametrize("link", LINKS.values())
def test_where_nothing_is_wrong_there_is_no_lowest_temperature(link):
    found = fit_temperature(np.array([3.0, 0.5, 40.0, 0.0]), link)
    assert "no pair is wrong" in found.unbounded
    assert found.value == pytest.approx(np.mean([3, 0.5, 40, 0]) / REACH)


@pytest.mark.parametrize("link", LINKS.values())
@pytest.mark.parametrize("e", [[-1.0, -2.0], [1.0, -1.0], [2.0, 1.0, -4.0]])
def test_where_rewards_are_no_better_than_chance_one_half_is_likeliest(link, e):
    found = fit_temperature(np.array(e), link)
    assert "no better than chance" in found.unbounded
    assert link.probability(np.array(e) / found.value) == pytest.approx(0.5, abs=0.002)


def test_a_pair_has_no_part_in_its_own_temperature_nor_have_others_of_its_prompt():
    prompts = [f"prompt {i % 30}" for i in range(90)]
    clusters, e = rows_by_group(prompts), evidence(90)
    before = crossfitted(e, LOGISTIC, clusters, seed=4)
    for rows in clusters:
        changed = e.copy()
        changed[rows] = -5 * e[rows] + 1
        after = crossfitted(changed, LOGISTIC, clusters, seed=4)
        assert after[rows] == pytest.approx(before[rows], rel=1e-12)
        assert (np.abs(after - before) > 1e-6).any()  # but those of the other folds


def test_there_are_five_folds_of_whole_prompts_each_fitted_on_all_others():
    prompts = [f"prompt {i % 23}" for i in range(70)]
    clusters, e = rows_by_group(prompts), evidence(70)
    found = crossfitted(e, LOGISTIC, clusters, seed=0)
    assert len(np.unique(found)) == 5
    assert all(len(np.unique(found[rows])) == 1 for rows in clusters)
    for value in np.unique(found):
        assert fit_temperature(e[found != value], LOGISTIC).value == pytest.approx(value, rel=1e-9)


def test_two_prompts_are_two_folds():
    e = np.array([1.0, -0.2, 2.0, -0.1])
    found = crossfitted(e, LOGISTIC, [np.array([0, 1]), np.array([2, 3])], seed=0)
    expected = [fit_temperature(e[2:], LOGISTIC).value] * 2 + [fit_temperature(e[:2], LOGISTIC).value] * 2
    assert found == pytest.approx(expected)
