"""Intervals that cover, on data whose distribution is known."""

import numpy as np
import pytest
from scipy.stats import norm

from urm_hf.uncertainty.conformal import (
    assign_folds,
    conformal_quantile,
    count_groups,
    fit_interval_factors,
    measure_coverage,
)


@pytest.mark.parametrize("n, level, rank", [(9, 0.9, 9), (19, 0.95, 19), (10, 0.5, 6), (100, 0.68, 69), (39, 0.7, 28)])
def test_the_quantile_is_the_order_statistic_of_the_proof(n, level, rank):
    residuals = np.random.default_rng(0).permutation(n) + 1.0
    assert conformal_quantile(residuals, level) == rank


@pytest.mark.parametrize("n, level, needed", [(8, 0.9, 9), (18, 0.95, 19), (0, 0.5, 1)])
def test_too_few_ratings_are_told_with_how_many_it_takes(n, level, needed):
    with pytest.raises(ValueError, match=f"{n} ratings are too few for intervals of {level:g}: they take {needed}"):
        conformal_quantile(np.ones(n), level)
    assert conformal_quantile(np.ones(needed), level) == 1


def test_a_level_out_of_range_is_refused():
    with pytest.raises(ValueError, match="`level` must lie between 0 and 1, got 1"):
        conformal_quantile(np.ones(5), 1)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_few_residuals_cover_as_promised_on_average(level):
    """Of 19 residuals the expected coverage is ceil(20 level) / 20, for any continuous distribution."""
    generator = np.random.default_rng(1)
    draws = generator.exponential(size=(4000, 20))
    held = [row[-1] <= conformal_quantile(row[:-1], level) for row in draws]
    assert np.mean(held) == pytest.approx(np.ceil(20 * level) / 20, abs=4 * np.sqrt(level * (1 - level) / 4000))


def test_factors_of_gaussian_residuals_are_those_of_a_gaussian():
    generator = np.random.default_rng(2)
    means, stds = generator.normal(size=(20_000, 2)), generator.uniform(0.5, 3, size=(20_000, 2))
    wrong = np.array([1.0, 2.0])  # the second attribute's stds are half of what they should be
    ratings = means[..., None] + (stds * wrong)[..., None] * generator.normal(size=(20_000, 2, 2))
    factors = fit_interval_factors(means, stds, ratings, [0.68, 0.95])
    expected = norm.ppf([0.84, 0.975])[:, None] * wrong
    np.testing.assert_allclose(factors, expected, rtol=0.03)
    for place, level in enumerate((0.68, 0.95)):
        np.testing.assert_allclose(measure_coverage(means, stds, ratings, factors[place]), level, atol=0.001)
    assert measure_coverage(means, stds, ratings, 1.0)[1] == pytest.approx(norm.cdf(0.5) * 2 - 1, abs=0.02)


def test_ratings_that_are_missing_do_not_count():
    ratings = np.array([[[1.0, np.nan]], [[2.0, 3.0]], [[np.nan, np.nan]]])
    means, stds = np.zeros((3, 1)), np.ones((3, 1))
    assert fit_interval_factors(means, stds, ratings, [0.5])[0, 0] == 2  # of 1, 2, 3: the second
    assert measure_coverage(means, stds, ratings, 2.5)[0] == pytest.approx(2 / 3)
    assert np.isnan(measure_coverage(means, stds, np.full((3, 1, 2), np.nan), 1.0)[0])
    with pytest.raises(ValueError, match="'depth': 3 ratings are too few for intervals of 0.9"):
        fit_interval_factors(means, stds, ratings, [0.9], ["depth"])


def test_a_level_takes_as_many_prompts_as_it_takes_independent_ratings():
    """One rating of each of K prompts has a finite quantile from K / (K + 1) = level on; more of each add nothing."""
    generator = np.random.default_rng(0)
    for level, needed in ((0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)):
        for count in (needed, needed - 1):
            prompts = [f"{row % count}" for row in range(40)] if count else []
            if count < 2:  # rows of one prompt are their own groups
                continue
            ratings = generator.normal(size=(40, 1, 3))
            arguments = np.zeros((40, 1)), np.ones((40, 1)), ratings, [level], ["help"]
            if count == needed:
                assert np.isfinite(fit_interval_factors(*arguments, prompts)).all()
                continue
            told = f"'help': its ratings are of {count} prompts, and intervals of {level:g} take {needed} that are ind"
            with pytest.raises(ValueError, match=told):
                fit_interval_factors(*arguments, prompts)


def test_rows_of_one_prompt_count_in_its_place():
    ratings = np.random.default_rng(0).normal(size=(19, 1, 2))
    means, stds = np.zeros((19, 1)), np.ones((19, 1))
    assert np.isfinite(fit_interval_factors(means, stds, ratings, [0.95], groups=["a"] * 19)).all()
    with pytest.raises(ValueError, match="attribute 0: its ratings are of 18 rows, all of one prompt, and"):
        fit_interval_factors(means[1:], stds[1:], ratings[1:], [0.95], groups=["a"] * 18)


def test_prompts_without_a_rating_of_an_attribute_do_not_count_for_it():
    ratings = np.full((4, 2, 1), 1.0)
    ratings[2:, 1] = np.nan
    assert count_groups(ratings, ["a", "b", "c", "c"]) == [3, 2]
    assert count_groups(ratings, ["a"] * 4) == [4, 2]


def test_folds_keep_groups_whole_and_are_of_like_size():
    groups = [f"prompt {n % 23}" for n in range(230)]
    folds = assign_folds(groups, 5)
    by_group = {group: {fold for g, fold in zip(groups, folds) if g == group} for group in set(groups)}
    assert all(len(found) == 1 for found in by_group.values())
    counts = np.bincount([next(iter(found)) for found in by_group.values()])
    assert sorted(counts) == [4, 4, 5, 5, 5]
    assert sorted(set(assign_folds(["a", "a", "b"], 5))) == [0, 1]
    # rows of one prompt are told apart by nothing that a new row would not share
    assert sorted(np.bincount(assign_folds(["a"] * 10, 5))) == [2] * 5
    with pytest.raises(ValueError, match="two rows and two folds or more, got 1 and 5"):
        assign_folds(["a"])


def test_a_level_of_nearly_nothing_takes_the_smallest_residual():
    assert conformal_quantile(np.array([3.0, 1.0, 2.0]), 1e-9) == 1


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("means", np.nan, "`means` must be finite, got nan in row 3 of attribute 1"),
        ("stds", 0.0, "`stds` must be above 0 and finite, got 0.0 in row 3 of attribute 1"),
        ("stds", -1.0, "`stds` must be above 0"),
        ("stds", np.inf, "`stds` must be above 0 and finite, got inf"),
        ("ratings", np.inf, "`ratings` must be finite"),
    ],
)
def test_numbers_that_are_none_are_not_left_out(name, value, told):
    parts = {"means": np.zeros((9, 2)), "stds": np.ones((9, 2)), "ratings": np.ones((9, 2, 1))}
    parts[name][3, 1] = value
    with pytest.raises(ValueError, match=told):
        fit_interval_factors(**parts, levels=[0.5])
    if name != "ratings":  # a row that nobody rated may have anything
        parts["ratings"][3, 1] = np.nan
        assert fit_interval_factors(**parts, levels=[0.5]).tolist() == [[1.0, 1.0]]


def test_shapes_that_do_not_fit_are_told():
    means, ratings = np.zeros((9, 2)), np.zeros((9, 2, 1))
    with pytest.raises(ValueError, match=r"must be \(N, n\) and .*got \(5, 2\), \(9, 2\) and \(9, 2, 1\)"):
        fit_interval_factors(means[:5], means + 1, ratings)
    with pytest.raises(ValueError, match="`groups` must name the group of each of the 9 rows, got 2"):
        fit_interval_factors(means, means + 1, ratings, [0.5], groups=[1, 2])
    assert fit_interval_factors(means.tolist(), (means + 1).tolist(), ratings.tolist(), [0.5]).shape == (1, 2)
