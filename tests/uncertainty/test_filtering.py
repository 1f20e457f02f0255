"""What is kept."""

import math

import numpy as np
import pytest
from scipy.special import ndtr

from tests.helpers.made_uncertainties import scores_with
from urm_hf.uncertainty.filtering import combine_pair_uncertainty, filter_pairs, filter_scores, filter_values


def test_a_threshold_keeps_what_is_at_most_it():
    filtered = filter_values([0.3, 0.1, 0.2, 0.2, 0.4], threshold=0.2)
    assert filtered.kept.tolist() == [False, True, True, True, False]
    assert filtered.indices.tolist() == [1, 2, 3]
    assert (filtered.n_kept, filtered.n_dropped, filtered.threshold) == (3, 2, 0.2)
    assert filtered.select("abcde") == ["b", "c", "d"]
    assert str(filtered) == "3 of 5 kept, 2 above 0.2 dropped"


@pytest.mark.parametrize("n", [1, 7, 10, 30, 100])
@pytest.mark.parametrize("keep", [0.01, 0.1, 0.3, 0.5, 0.7, 0.8, 1.0])
def test_a_share_keeps_the_least_uncertain(n, keep):
    values = np.random.default_rng(n).permutation(n).astype(float)
    filtered = filter_values(values, keep=keep)
    expected = next(count for count in range(1, n + 1) if count * 100 >= round(keep * 100) * n)
    assert set(values[filtered.kept]) == set(range(expected))


def test_ties_with_the_last_kept_value_are_kept():
    filtered = filter_values([1.0, 2.0, 2.0, 2.0, 3.0], keep=0.4)
    assert filtered.kept.tolist() == [True, True, True, True, False]
    assert filtered.threshold == 2.0


def test_the_threshold_of_a_share_makes_the_same_choice_again():
    values = np.random.default_rng(0).normal(size=57)
    filtered = filter_values(values, keep=0.61)
    assert (filter_values(values, threshold=filtered.threshold).kept == filtered.kept).all()


def test_a_pair_is_dropped_when_either_side_is_above():
    chosen, rejected = scores_with([1, 5, 1, 5]), scores_with([1, 1, 5, 5])
    assert filter_pairs(chosen, rejected, "reward_std", threshold=2).kept.tolist() == [True, False, False, False]
    both = filter_pairs(chosen, rejected, "reward_std", threshold=2, above="both")
    assert both.kept.tolist() == [True, True, True, False]


def test_scores_are_filtered_by_a_measure():
    assert filter_scores(scores_with([3, 1, 2]), "reward_std", keep=2 / 3).indices.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either `threshold` or `keep`"),
        ({"threshold": 1.0, "keep": 0.5}, "either `threshold` or `keep`"),
        ({"keep": 0.0}, r"must lie in \(0, 1\], got 0"),
        ({"keep": 80}, r"must lie in \(0, 1\], got 80"),
        ({"keep": math.nan}, "got nan"),
        ({"threshold": math.nan}, "`threshold` is nan"),
    ],
)
def test_what_a_filter_cannot_do(arguments, message):
    with pytest.raises(ValueError, match=message):
        filter_values([1.0, 2.0], **arguments)


def test_values_that_are_not_finite_are_named():
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"not finite in rows \[1\]"):
            filter_values([1.0, value], keep=0.5)
    with pytest.raises(ValueError, match=r"shape \(N,\), got \(2, 1\)"):
        filter_values([[1.0], [2.0]], keep=0.5)
    with pytest.raises(ValueError, match="at least one value"):
        filter_values([], keep=0.5)
    assert filter_values([], threshold=1.0).n_kept == 0


def test_pairs_that_do_not_match():
    with pytest.raises(ValueError, match="got 2 chosen and 1 rejected"):
        combine_pair_uncertainty([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match='"either" or "both", got \'max\''):
        combine_pair_uncertainty([1.0], [1.0], above="max")
    with pytest.raises(ValueError, match="zip"):
        filter_values([1.0, 2.0], threshold=1.0).select(["a"])


def test_pairs_are_kept_where_the_model_is_sure_which_is_better():
    """The pair's own measure: neither a wide margin nor a small std alone makes it sure."""
    chosen = [
        {"reward": reward, "reward_std": std} for reward, std in ((3.0, 1.0), (0.1, 0.01), (1.0, 4.0), (-2.0, 0.5))
    ]
    rejected = [{"reward": 0.0, "reward_std": 0.01} for _ in chosen]
    kept = filter_pairs(chosen, rejected, "probability_near_half", keep=0.75)
    assert kept.kept.tolist() == [True, True, False, True]  # 3, 7.1, 0.25 and -4 standard deviations apart
    assert kept.threshold == pytest.approx(ndtr(-3.0 / math.hypot(1.0, 0.01)))
    assert filter_pairs(rejected, chosen, "probability_near_half", keep=0.75).kept.tolist() == kept.kept.tolist()
    with pytest.raises(ValueError, match="is of the pair: leave it out"):
        filter_pairs(chosen, rejected, "probability_near_half", keep=0.5, above="both")
    with pytest.raises(ValueError, match="Row 0 .*no uncertainty"):
        filter_pairs([{"reward": 1.0}], [{"reward": 0.0}], "probability_near_half", keep=0.5)
