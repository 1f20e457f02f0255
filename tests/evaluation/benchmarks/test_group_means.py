"""Means of means, what they are counted over, and intervals that keep prompts whole and parts filled."""

import numpy as np
import pytest

from urm_hf.evaluation.benchmarks.group_means import GroupMean, Outcomes, measured_means


def outcomes(values, prompts=None, rows=None) -> Outcomes:
    count = len(values)
    prompts = [f"prompt {i}" for i in range(count)] if prompts is None else list(prompts)
    return Outcomes(np.array(values, float), np.arange(count) if rows is None else np.array(rows), prompts)


def everything(count: int) -> list:
    return [(np.ones(count, bool), 1.0)]


def test_a_mean_of_means_weighs_its_parts():
    first, second = np.array([1, 1, 0, 0, 0], bool), np.array([0, 0, 1, 1, 1], bool)
    means = [GroupMean(None, None, [(first, 0.25), (second, 0.75)]), GroupMean("subset", "second", [(second, 1.0)])]
    overall, part = measured_means("accuracy", outcomes([1, 0, 1, 1, 0]), means)
    assert overall.value == pytest.approx(0.25 * 1 / 2 + 0.75 * 2 / 3)
    assert (overall.metric, overall.level, overall.group, overall.n, overall.prompts) == ("accuracy", None, None, 5, 5)
    assert part.value == pytest.approx(2 / 3) and (part.level, part.group, part.n) == ("subset", "second", 3)


def test_rows_and_prompts_are_counted_once():
    found = measured_means(
        "accuracy", outcomes([1, 0, 1], prompts="aab", rows=[7, 7, 8]), [GroupMean(None, None, everything(3))]
    )[0]
    assert (found.n, found.prompts) == (2, 2)


def test_no_samples_no_interval_and_none_of_a_single_prompt():
    mean = [GroupMean(None, None, everything(4))]
    assert measured_means("accuracy", outcomes([1, 0, 1, 0]), mean)[0].interval is None
    assert measured_means("accuracy", outcomes([1, 0, 1, 0], prompts="aaaa"), mean, 100)[0].interval is None


def test_the_interval_is_that_of_the_standard_error():
    values = np.repeat([1, 0], [120, 280])
    low, high = measured_means("accuracy", outcomes(values), [GroupMean(None, None, everything(400))], 4000)[
        0
    ].interval
    error = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert (low, high) == (pytest.approx(0.3 - error, abs=0.004), pytest.approx(0.3 + error, abs=0.004))


def test_repeating_every_row_does_not_narrow_the_interval():
    values, prompts = np.repeat([1, 0], [12, 28]), np.arange(40).astype(str)
    once = measured_means("accuracy", outcomes(values, prompts), [GroupMean(None, None, everything(40))], 4000)[0]
    many = measured_means(
        "accuracy", outcomes(np.tile(values, 9), np.tile(prompts, 9)), [GroupMean(None, None, everything(360))], 4000
    )[0]
    assert many.interval == pytest.approx(once.interval, abs=1e-12)
    assert (many.n, many.prompts) == (360, 40)


def test_a_small_part_is_in_every_sample():
    small = np.arange(1000) < 2
    values = np.arange(1000) % 2
    mean = [GroupMean(None, None, [(small, 0.5), (~small, 0.5)])]
    low, high = measured_means("accuracy", outcomes(values), mean, 2000)[0].interval
    assert np.isfinite([low, high]).all() and low < 0.3 and high > 0.7  # half its weight is on two rows


def test_parts_keep_their_shares_in_every_sample():
    first = np.arange(6) < 2
    subsets = [GroupMean("subset", "first", [(first, 1.0)]), GroupMean("subset", "second", [(~first, 1.0)])]
    overall = GroupMean(None, None, everything(6))
    values = outcomes([1, 1, 0, 0, 0, 0])
    assert measured_means("accuracy", values, [overall, *subsets], 500)[0].interval is None  # always 2 of 6
    low, high = measured_means("accuracy", values, [overall], 500)[0].interval
    assert low < 1 / 6 and high > 1 / 2


def test_a_prompt_in_two_parts_is_drawn_for_both():
    first = np.arange(60) < 30
    values, prompts = np.tile(np.arange(30) % 2, 2), np.tile(np.arange(30), 2).astype(str)
    difference = [GroupMean(None, None, [(first, 1.0), (~first, -1.0)])]
    assert measured_means("accuracy", outcomes(values, prompts), difference, 500)[0].interval is None  # never differ
    apart = measured_means("accuracy", outcomes(values), difference, 500)[0]
    assert apart.interval[0] < -0.1 and apart.interval[1] > 0.1


@pytest.mark.parametrize(("value", "expected"), [(1, (0.025 ** (1 / 20), 1.0)), (0, (0.0, 1 - 0.025 ** (1 / 20)))])
def test_all_right_or_all_wrong_has_the_exact_binomial_interval(value, expected):
    found = measured_means("accuracy", outcomes([value] * 20), [GroupMean(None, None, everything(20))], 200)[0]
    assert found.interval == pytest.approx(expected)
