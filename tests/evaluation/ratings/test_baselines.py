"""The constant predictor left out by hand, and the noise ceiling against the conditional of a Gaussian."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import f_oneway, multivariate_normal, norm, pearsonr

from tests.helpers.made_ratings import made_up
from urm_hf.evaluation.ratings.baselines import constant_metrics, noise_ceiling, others_predict, variance_components

DATA = made_up()


def table(found) -> dict:
    return {(one.metric, one.group): one for one in found.metrics}


def one_way(rows: int, annotators: int, between: float, within: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return 3 + rng.normal(0, between, (rows, 1)) + rng.normal(0, within, (rows, annotators))


def only(ratings: np.ndarray):
    """Data of one attribute."""
    data = made_up(rows=len(ratings), annotators=ratings.shape[1], prompts=len(ratings))
    return replace(data, attributes=["fluency"], ratings=ratings[:, None, :])


def test_the_constant_predictor_has_seen_all_prompts_but_the_one_that_it_is_judged_on():
    losses, prompts = [], np.array(DATA.prompts)
    for number, prompt in enumerate(prompts):
        others = DATA.ratings[prompts != prompt, 1]
        losses.extend(-norm.logpdf(s, np.nanmean(others), np.nanstd(others)) for s in DATA.ratings[number, 1])
    found = table(constant_metrics(DATA, samples=20))
    assert found["nll", "depth"].value == pytest.approx(np.nanmean(losses))
    assert found["nll", "depth"].interval is not None
    assert {metric for metric, _ in found} == {"nll", "crps", "coverage50", "coverage68", "coverage95", "sharpness"}


def test_without_other_prompts_or_other_ratings_there_is_no_constant_predictor():
    assert "one prompt only" in constant_metrics(made_up(prompts=1)).absent["constant"]
    flat = replace(DATA, ratings=np.full_like(DATA.ratings, 3.0))
    assert "ratings of fluency are too few, or all the same" in constant_metrics(flat).absent["constant"]


def test_the_ceiling_is_the_correlation_of_each_rating_with_the_mean_of_the_others():
    held_out, others = [], []
    for row in DATA.ratings[:, 0]:
        given = row[~np.isnan(row)]
        for j in range(len(given)):
            if len(given) > 1:
                held_out.append(given[j])
                others.append(np.delete(given, j).mean())
    found = table(noise_ceiling(DATA, samples=20))["noise_ceiling_pearson", "fluency"]
    assert found.value == pytest.approx(pearsonr(held_out, others)[0])
    assert found.n == len(held_out) and found.interval[0] < found.value < found.interval[1]
    average = table(noise_ceiling(DATA, samples=0))["noise_ceiling_pearson", None]
    each = [table(noise_ceiling(DATA, samples=0))["noise_ceiling_pearson", name].value for name in DATA.attributes]
    assert average.value == pytest.approx(np.mean(each))


@pytest.mark.parametrize("annotators", [2, 5])
def test_the_ceiling_is_that_of_theory(annotators):
    """Cov(s, o) = t^2, Var(s) = t^2 + w^2, Var(o) = t^2 + w^2 / k."""
    t, w, k = 0.8, 1.1, annotators - 1
    found = table(noise_ceiling(only(one_way(20_000, annotators, t, w)), samples=0))
    expected = t**2 / np.sqrt((t**2 + w**2) * (t**2 + w**2 / k))
    assert found["noise_ceiling_pearson", "fluency"].value == pytest.approx(expected, abs=0.015)
    reliability = k * t**2 / (k * t**2 + w**2)
    entropy = 0.5 * np.log(2 * np.pi * np.e * (w**2 + t**2 * (1 - reliability)))
    assert found["noise_ceiling_nll", "fluency"].value == pytest.approx(entropy, abs=0.01)


def test_a_rating_s_likelihood_is_that_of_the_joint_gaussian_given_the_others():
    ratings = one_way(30, 4, 0.8, 1.1)
    ratings[:10, 2:] = np.nan
    m, between, within = variance_components(ratings)
    _, _, nll = others_predict(ratings)
    for row, losses in zip(ratings, nll):
        given = np.flatnonzero(~np.isnan(row))
        for j in given:
            rest = np.delete(given, np.flatnonzero(given == j))
            joint, marginal = (
                multivariate_normal.logpdf(row[i], np.full(len(i), m), between + within * np.eye(len(i)))
                for i in (given, rest)
            )
            assert losses[j] == pytest.approx(marginal - joint)
        assert np.isnan(losses[np.isnan(row)]).all()


def test_variance_components_are_those_of_the_analysis_of_variance():
    ratings = one_way(40, 3, 0.8, 1.1)
    m, between, within = variance_components(ratings)
    assert m == pytest.approx(ratings.mean()) and within == pytest.approx(ratings.var(axis=1, ddof=1).mean())
    assert 1 + 3 * between / within == pytest.approx(f_oneway(*ratings).statistic)


def test_unbalanced_variance_components_are_right_on_average():
    rng, found = np.random.default_rng(0), []
    for seed in range(60):
        ratings = one_way(60, 5, 0.8, 1.1, seed)
        ratings[np.arange(5) > rng.integers(0, 5, 60)[:, None]] = np.nan
        found.append(variance_components(ratings))
    assert np.mean(found, axis=0) == pytest.approx([3, 0.64, 1.21], abs=0.06)


def test_annotators_who_always_agree_have_a_ceiling_of_one_and_no_likelihood():
    ratings = np.repeat(np.arange(8.0)[:, None], 3, axis=1)
    found = noise_ceiling(only(ratings), samples=10)
    assert table(found)["noise_ceiling_pearson", "fluency"].value == pytest.approx(1)
    assert "never differ" in found.absent["noise_ceiling_nll/fluency"]


def test_single_ratings_have_no_ceiling():
    found = noise_ceiling(only(one_way(9, 1, 1, 1)), samples=10)
    assert found.metrics == [] and "several ratings" in found.absent["noise_ceiling/fluency"]
    partly = replace(DATA, ratings=DATA.ratings.copy())
    partly.ratings[:, 1, 1:] = np.nan
    values = table(noise_ceiling(partly, samples=0))
    assert values["noise_ceiling_pearson", None].value == values["noise_ceiling_pearson", "fluency"].value


def test_one_conversation_has_no_correlation():
    found = noise_ceiling(only(np.array([[1.0, 1.0, 2.0]])), samples=10)
    assert ("noise_ceiling_pearson", "fluency") in table(found)  # of three ratings with the others'
    flat = noise_ceiling(only(np.ones((1, 3))), samples=10)
    assert flat.metrics == [] and flat.absent["noise_ceiling_pearson/fluency"] == "no variation"
