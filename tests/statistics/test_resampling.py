"""Samples as counts are those that bootstrap_intervals draws row by row."""

import numpy as np
import pytest
from scipy.stats import binomtest

from urm_hf.statistics import resampling
from urm_hf.statistics.bootstrap import bootstrap_intervals, rows_by_group
from urm_hf.statistics.resampling import interval, interval_of_share, resampled

PROMPTS = [f"prompt {i // 2 % 17}" for i in range(40)]
VALUES = np.random.default_rng(0).normal(size=40)


def means(counts):
    return {"mean": counts @ VALUES / counts.sum(1)}


def test_the_interval_of_a_mean_is_that_of_samples_row_by_row():
    expected = bootstrap_intervals(lambda rows: {"mean": VALUES[rows].mean()}, rows_by_group(PROMPTS), 3000, seed=1)
    draws = resampled(means, PROMPTS, 3000, seed=2)["mean"]
    assert interval(draws) == pytest.approx(expected["mean"], abs=0.03)


def test_rows_of_a_prompt_are_drawn_together_and_as_many_prompts_as_there_are():
    def check(counts):
        assert counts.shape[1] == 40
        for rows in rows_by_group(PROMPTS):
            assert (counts[:, rows] == counts[:, rows[:1]]).all()
        drawn = np.stack([counts[:, rows[0]] for rows in rows_by_group(PROMPTS)], axis=1)
        assert (drawn.sum(1) == 17).all()
        return {"n": counts.sum(1)}

    assert resampled(check, PROMPTS, 25, seed=0)["n"].shape == (25,)


def test_drawing_in_blocks_changes_nothing(monkeypatch):
    whole = resampled(means, PROMPTS, 50, seed=3)["mean"]
    monkeypatch.setattr(resampling, "_NUMBERS_AT_ONCE", 7 * 40)
    assert resampled(means, PROMPTS, 50, seed=3)["mean"] == pytest.approx(whole)


def test_one_prompt_or_no_samples_give_no_draws():
    assert resampled(means, ["one"] * 40, 50, seed=0) == {} == resampled(means, PROMPTS, 0, seed=0)


def test_intervals_leave_nan_out_and_are_none_where_nothing_varies():
    assert interval(np.array([np.nan, 0.0, 1.0, np.nan])) == (pytest.approx(0.025), pytest.approx(0.975))
    assert interval(None) is None and interval(np.full(9, np.nan)) is None and interval(np.ones(9)) is None


@pytest.mark.parametrize("share", [0, 1])
def test_a_share_of_nothing_or_everything_has_the_exact_interval(share):
    exact = binomtest(12 * share, 12).proportion_ci(0.95, method="exact")
    assert interval_of_share(float(share), 12, np.full(9, share)) == pytest.approx((exact.low, exact.high))
    assert interval_of_share(float(share), 12, None) is None
