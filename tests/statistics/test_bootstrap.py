"""Samples of whole clusters: what is drawn together, how often, and how much means vary."""

import numpy as np
import pytest

from urm_hf.statistics.bootstrap import bootstrap_intervals, bootstrap_means, rows_by_group, times_drawn


def test_times_drawn_are_counts_of_n_draws():
    counts = times_drawn(np.random.default_rng(0), 20_000, 7)
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
    monkeypatch.setattr("urm_hf.statistics.bootstrap._COUNTS_AT_ONCE", 35)
    values = np.random.default_rng(2).normal(size=(10, 1))
    draws = bootstrap_means(values, np.ones_like(values), [0] * 10, samples=1000)
    assert draws.shape == (1000, 1) and len(np.unique(draws)) > 900
    assert draws.mean() == pytest.approx(values.mean(), abs=0.05)
    assert draws.std() == pytest.approx(values.std() / np.sqrt(10), rel=0.1)
