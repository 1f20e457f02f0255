"""Metrics of ratings against scipy, numerical integration and definitions written out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, pearsonr, spearmanr

from tests.helpers.made_ratings import NAMES, arrays_of, made_up, scores_of
from urm_hf.evaluation.ratings.metrics import rating_metrics, row_nll
from urm_hf.scores import RewardScore
from urm_hf.statistics.rating_metrics import gaussian_crps

DATA = made_up()
SCORES = scores_of(DATA)


def table(found) -> dict:
    return {(one.metric, one.group, one.variant): one for one in found.metrics}


FOUND = table(rating_metrics(DATA, SCORES, samples=0))


def each_rating(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rating, mean and std of each rating of attribute k."""
    means, stds = arrays_of(SCORES)
    row, annotator = np.nonzero(~np.isnan(DATA.ratings[:, k]))
    return DATA.ratings[row, k, annotator], means[row, k], stds[row, k]


@pytest.mark.parametrize("residual, std", [(0.0, 1.0), (-2.5, 0.7), (1.0, 30.0), (4.0, 0.2)])
def test_crps_is_the_integral_of_its_definition(residual, std):
    below = quad(lambda x: norm.cdf(x, 0, std) ** 2, -40 * std, residual, limit=200, points=[min(0, residual)])[0]
    above = quad(lambda x: norm.sf(x, 0, std) ** 2, residual, residual + 40 * std, limit=200)[0]
    assert gaussian_crps(np.array([residual]), np.array([std])).item() == pytest.approx(below + above, rel=1e-6)


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_densities_and_intervals_are_those_of_scipy_on_the_rating_scale(k, name):
    s, mu, sigma = each_rating(k)
    assert FOUND["nll", name, None].value == pytest.approx(-norm.logpdf(s, mu, sigma).mean())
    assert FOUND["crps", name, None].value == pytest.approx(gaussian_crps(s - mu, sigma).mean())
    for metric, inside in (("coverage50", 0.5), ("coverage68", norm.cdf(1) - norm.cdf(-1)), ("coverage95", 0.95)):
        low, high = norm.interval(inside, mu, sigma)
        assert FOUND[metric, name, None].value == pytest.approx(((s >= low) & (s <= high)).mean())
    assert FOUND["nll", name, None].n == len(s) and FOUND["nll", name, None].prompts == 20


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_calibrated_intervals_hold_what_lies_between_their_ends(k, name):
    scores = [RewardScore(**score) for score in SCORES]
    for number, score in enumerate(scores):
        ends = {own: [mean - 0.4 - 0.1 * number, mean + 0.9] for own, mean in score.attribute_means.items()}
        score["intervals"] = {"0.68": ends, "0.9": {own: [-1e9, 1e9] for own in ends}}
    found = table(rating_metrics(DATA, scores, samples=0))
    row, annotator = np.nonzero(~np.isnan(DATA.ratings[:, k]))
    ratings, (means, _) = DATA.ratings[row, k, annotator], arrays_of(SCORES)
    low, high = means[row, k] - 0.4 - 0.1 * row, means[row, k] + 0.9
    share = ((low <= ratings) & (ratings <= high)).mean()
    assert found["interval_coverage68", name, None].value == pytest.approx(share)
    assert found["interval_coverage90", name, None].value == 1
    width = found["interval_width68", name, None]
    assert width.value == pytest.approx(np.mean([1.3 + 0.1 * number for number in range(len(scores))]))
    assert width.n == len(scores) and ("interval_coverage95", name, None) not in found
    assert not any("interval" in metric for metric, *_ in FOUND)


def test_coverage_by_length_is_that_of_thirds():
    lengths = np.arange(len(SCORES)) * 7 % 60 + 10
    scores = [RewardScore(**score) for score in SCORES]
    for score, length in zip(scores, lengths):
        score["n_tokens"] = int(length)
        score["intervals"] = {"0.95": {own: [-1e9, 1e9] for own in score.attribute_means}}
    found = [one for one in rating_metrics(DATA, scores, samples=0).metrics if one.level == "length"]
    groups = list(dict.fromkeys(one.group for one in found))
    assert len(groups) == 3 and sum(one.n for one in found if one.metric == "coverage68") == len(scores)
    means, stds = arrays_of(SCORES)
    longest = np.argsort(lengths, kind="stable")[-len(scores) // 3 :]
    inside = np.abs(DATA.ratings - means[..., None]) <= stds[..., None]
    rated = ~np.isnan(DATA.ratings)
    shares = [(inside & rated)[longest, k].sum() / rated[longest, k].sum() for k in range(len(NAMES))]
    last = {one.metric: one for one in found if one.group == groups[-1]}
    assert last["coverage68"].n == len(longest)  # no two lengths are equal
    assert last["coverage68"].value == pytest.approx(np.mean(shares))
    assert last["interval_coverage95"].value == 1 and "interval_coverage68" not in last


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_correlations_are_those_of_scipy(k, name):
    means, stds = arrays_of(SCORES)
    observed = np.nanmean(DATA.ratings[:, k], axis=1)
    rewards = [score.reward for score in SCORES]
    assert FOUND["pearson", name, None].value == pytest.approx(pearsonr(means[:, k], observed)[0], abs=1e-5)
    assert FOUND["spearman", name, None].value == pytest.approx(spearmanr(means[:, k], observed)[0])
    assert FOUND["pearson", name, "reward"].value == pytest.approx(pearsonr(rewards, observed)[0], abs=1e-5)
    assert FOUND["spearman", name, "reward"].value == pytest.approx(spearmanr(rewards, observed)[0])
    s, mu, _ = each_rating(k)
    assert FOUND["single_pearson", name, None].value == pytest.approx(pearsonr(mu, s)[0])
    several = [not np.isnan(row[1:]).all() for row in DATA.ratings[:, k]]
    spread = [np.nanvar(row, ddof=1) for row in DATA.ratings[several, k]]
    found = FOUND["spread_pearson", name, None]
    assert found.value == pytest.approx(pearsonr(stds[several, k] ** 2, spread)[0])
    assert found.n == sum(several) and FOUND["pearson", name, None].n == 60
    assert FOUND["sharpness", name, None].value == pytest.approx(stds[:, k].mean())


@pytest.mark.parametrize("metric", ["nll", "crps", "pearson", "coverage50", "sharpness", "single_pearson"])
def test_averages_are_over_attributes(metric):
    assert FOUND[metric, None, None].value == pytest.approx(np.mean([FOUND[metric, n, None].value for n in NAMES]))
    assert FOUND[metric, None, None].level is None and FOUND[metric, "depth", None].level == "attribute"


@pytest.mark.parametrize("scales", [{}, {"fluency": [-5.0, 11.0]}, {"fluency": [-5.0, 11.0], "depth": [-9.0, 99.0]}])
def test_numbers_in_units_of_ratings_are_not_averaged_over_different_ranges(scales):
    found = rating_metrics(replace(DATA, scales=scales), SCORES, samples=0)
    values = table(found)
    assert ("crps", None, None) not in values and ("sharpness", None, None) not in values
    assert "no average" in found.absent["crps"] and "no average" in found.absent["sharpness"]
    assert values["crps", "depth", None] == FOUND["crps", "depth", None]
    assert values["nll", None, None] == FOUND["nll", None, None]


def test_attributes_are_matched_by_name_or_by_a_mapping():
    turned = [
        RewardScore(
            s.reward, s.reward_std, *(dict(reversed(s[f].items())) for f in ("attribute_means", "attribute_stds"))
        )
        for s in SCORES
    ]
    assert table(rating_metrics(DATA, turned, samples=0)) == FOUND
    other = scores_of(DATA, ["style", "insight"])
    with pytest.raises(ValueError, match="style, insight; made up has fluency, depth"):
        rating_metrics(DATA, other)
    mapped = table(rating_metrics(DATA, other, {"insight": "depth"}, samples=0))
    assert mapped["nll", "depth", None] == FOUND["nll", "depth", None]
    assert not any(group == "fluency" for _, group, _ in mapped)


def test_a_scalar_model_has_only_correlations_of_its_reward():
    scalar = [RewardScore(reward=score.reward) for score in SCORES]
    found = table(rating_metrics(DATA, scalar, samples=0))
    assert set(found) == {(m, g, "reward") for m in ("pearson", "spearman") for g in (None, *NAMES)}
    assert all(one == FOUND[key] for key, one in found.items())


def test_intervals_hold_their_values_and_those_of_repeated_rows_are_no_narrower():
    once = table(rating_metrics(DATA, SCORES, samples=60))
    many = replace(
        DATA, conversations=DATA.conversations * 3, prompts=DATA.prompts * 3, ratings=np.tile(DATA.ratings, (3, 1, 1))
    )
    repeated = table(rating_metrics(many, SCORES * 3, samples=60))
    for key, one in once.items():
        assert one.interval[0] <= one.value <= one.interval[1]
        assert repeated[key].interval == pytest.approx(one.interval)


@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_not_defined_is_absent_and_nothing_is_nan(rows):
    data = made_up(rows=rows, annotators=2, prompts=2, missing=1)
    found = rating_metrics(data, scores_of(data), samples=30)
    assert "fewer than two conversations with several ratings" in found.absent["spread_pearson/depth"]
    assert ("pearson/depth" in found.absent) == (rows == 1)
    json.dumps([[one.value, one.interval] for one in found.metrics], allow_nan=False)


def test_constant_predictions_have_no_correlation_and_say_so():
    constant = [RewardScore(1.0, 1.0, {n: 3.0 for n in NAMES}, {n: 1.0 for n in NAMES}) for _ in SCORES]
    found = rating_metrics(DATA, constant, samples=5)
    assert "no variation" in found.absent["pearson/depth"] and "no variation" in found.absent["pearson (reward)"]
    assert table(found)["nll", "depth", None].value > 0


def test_an_attribute_that_few_rows_have_is_missing_in_some_samples_only():
    ratings = DATA.ratings.copy()
    ratings[3:, 1] = np.nan
    found = table(rating_metrics(replace(DATA, ratings=ratings), SCORES, samples=30))
    assert found["nll", "depth", None].interval and found["nll", "depth", None].n < 13


def test_row_by_row_nll_is_the_mean_over_the_ratings_of_a_row():
    means, stds = arrays_of(SCORES)
    expected = [
        -np.nanmean(norm.logpdf(DATA.ratings[i], means[i][:, None], stds[i][:, None])) for i in range(len(means))
    ]
    assert row_nll(DATA, SCORES) == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda s: s[:-1], "has 60 conversations, got 59 scores"),
        (lambda s: [*s[:-1], RewardScore(reward=1.0)], "59 of 60 scores have `attribute_means`"),
        (
            lambda s: [*s[:-1], RewardScore(1.0, 1.0, dict.fromkeys(NAMES, 1.0), dict.fromkeys(NAMES, 0.0))],
            r"scores\[59\]",
        ),
    ],
)
def test_bad_scores_are_named(change, told):
    with pytest.raises(ValueError, match=told):
        rating_metrics(DATA, change(SCORES), samples=0)
