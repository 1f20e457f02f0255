"""Samples of whole clusters: what is drawn together, how often, and how much means vary."""

import numpy as np
import pytest
from scipy.stats import binomtest

from urm_hf.statistics import bootstrap
from urm_hf.statistics.bootstrap import (
    bootstrap_intervals,
    bootstrap_means,
    compute_interval,
    compute_interval_of_share,
    count_draws,
    draw_samples,
    resample_counts,
    rows_by_group,
)

PROMPTS = [f"prompt {i // 2 % 17}" for i in range(40)]
VALUES = np.random.default_rng(0).normal(size=40)


def test_counts_are_those_of_n_draws():
    (drawn,) = draw_samples([np.arange(7)], 20_000)
    counts = count_draws(drawn, 7)
    assert (counts.sum(1) == 7).all() and counts.shape == (20_000, 7)
    assert counts.mean(0) == pytest.approx(np.ones(7), abs=0.03)
    assert counts.var(0) == pytest.approx(np.full(7, 6 / 7), abs=0.03)  # binomial: n p (1 - p)


def test_means_vary_as_the_standard_error_says():
    values = np.repeat([1.0, 0.0], [60, 140])[:, None]
    draws = bootstrap_means(values, np.ones_like(values), ["one stratum"] * 200, samples=8000)
    assert draws.mean() == pytest.approx(0.3, abs=0.002)
    assert draws.std() == pytest.approx(np.sqrt(0.3 * 0.7 / 200), rel=0.03)


def test_clusters_of_different_sizes_give_the_intervals_of_sampling_their_rows():
    rng = np.random.default_rng(1)
    groups = np.sort(rng.integers(0, 40, 150))
    values = rng.random(150) + groups / 40
    clusters = rows_by_group(groups)
    sums = np.array([[values[rows].sum()] for rows in clusters])
    sizes = np.array([[len(rows)] for rows in clusters])
    draws = bootstrap_means(sums, sizes, [0] * len(clusters), samples=4000)
    slow = bootstrap_intervals(lambda rows: {"mean": values[rows].mean()}, clusters, samples=4000, seed=5)["mean"]
    assert np.quantile(draws, [0.025, 0.975]) == pytest.approx(slow, abs=0.02)


def test_every_stratum_is_in_every_sample_with_its_share():
    values, strata = np.array([[1.0], [1.0], [0.0], [0.0], [0.0], [0.0]]), ["a", "a", "b", "b", "b", "b"]
    assert bootstrap_means(values, np.ones_like(values), strata, samples=500) == pytest.approx(
        np.full((500, 1), 1 / 3)
    )


def test_a_column_without_values_in_a_sample_has_no_mean_there():
    sums, sizes = np.array([[1.0], [0.0]]), np.array([[1.0], [0.0]])
    draws = bootstrap_means(sums, sizes, ["a", "a"], samples=4000)
    assert np.isnan(draws).mean() == pytest.approx(0.25, abs=0.03)  # the second cluster twice
    assert (draws[~np.isnan(draws)] == 1).all()


def test_many_clusters_are_drawn_in_parts(monkeypatch):
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 17)
    values = np.random.default_rng(2).normal(size=(10, 1))
    draws = bootstrap_means(values, np.ones_like(values), [0] * 10, samples=1000)
    assert draws.shape == (1000, 1) and len(np.unique(draws)) > 900
    assert draws.mean() == pytest.approx(values.mean(), abs=0.05)
    assert draws.std() == pytest.approx(values.std() / np.sqrt(10), rel=0.1)


def means(counts):
    return {"mean": counts @ VALUES / counts.sum(1)}


def test_the_interval_of_a_mean_is_that_of_samples_row_by_row():
    expected = bootstrap_intervals(lambda rows: {"mean": VALUES[rows].mean()}, rows_by_group(PROMPTS), 3000, seed=1)
    draws = resample_counts(means, PROMPTS, 3000, seed=2)["mean"]
    assert compute_interval(draws) == pytest.approx(expected["mean"], abs=0.03)


def test_rows_of_a_prompt_are_drawn_together_and_as_many_prompts_as_there_are():
    def check(counts):
        assert counts.shape[1] == 40
        for rows in rows_by_group(PROMPTS):
            assert (counts[:, rows] == counts[:, rows[:1]]).all()
        drawn = np.stack([counts[:, rows[0]] for rows in rows_by_group(PROMPTS)], axis=1)
        assert (drawn.sum(1) == 17).all()
        return {"n": counts.sum(1)}

    assert resample_counts(check, PROMPTS, 25, seed=0)["n"].shape == (25,)


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    whole = resample_counts(means, PROMPTS, 50, seed=3)["mean"]
    monkeypatch.setattr(bootstrap, "_NUMBERS_AT_ONCE", 7 * 40)
    assert resample_counts(means, PROMPTS, 50, seed=3)["mean"] == pytest.approx(whole)


def test_one_prompt_or_no_samples_give_no_draws():
    assert resample_counts(means, ["one"] * 40, 50, seed=0) == {} == resample_counts(means, PROMPTS, 0, seed=0)


def test_intervals_leave_nan_out_and_are_none_where_nothing_varies():
    assert compute_interval(np.array([np.nan, 0.0, 1.0, np.nan])) == (pytest.approx(0.025), pytest.approx(0.975))
    assert (
        compute_interval(None) is None
        and compute_interval(np.full(9, np.nan)) is None
        and compute_interval(np.ones(9)) is None
    )


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_nothing_or_everything_has_the_exact_interval(share):
    exact = binomtest(12 * share, 12).proportion_ci(0.95, method="exact")
    assert compute_interval_of_share(float(share), 12, np.full(9, share)) == pytest.approx((exact.low, exact.high))
    assert compute_interval_of_share(float(share), 12, None) is None
