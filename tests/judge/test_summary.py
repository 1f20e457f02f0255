"""Shares of verdicts against counts by hand and closed forms."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from urm_hf.judge.summary import Judged, summarize

WIN, LOSS = Judged("a", "a"), Judged("b", "b")
FIRST, SECOND = Judged("a", "b"), Judged("b", "a")  # a judge that goes by place
NONE = Judged("a", None)


def of(judged, prompts=None, labelled=True, samples=300):
    return summarize(judged, range(len(judged)) if prompts is None else prompts, labelled, samples, 0)


@pytest.mark.parametrize(
    "pair, verdict, consistent",
    [
        (WIN, "win", True),
        (LOSS, "loss", True),
        (FIRST, "tie", False),
        (SECOND, "tie", False),
        (NONE, None, None),
        (Judged(None, "a"), None, None),
        (Judged(None, None), None, None),
    ],
)
def test_two_orders_make_a_verdict(pair, verdict, consistent):
    assert (pair.verdict, pair.consistent) == (verdict, consistent)


def wilson(count: int, n: int) -> tuple[float, float]:
    z, p = norm.ppf(0.975), count / n
    middle = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def test_shares_are_those_counted_by_hand():
    summary = of([WIN] * 5 + [LOSS] * 2 + [FIRST] * 2 + [SECOND] + [NONE] * 3)
    assert (summary["pairs"], summary["judged"], summary["not_judged"], summary["prompts"]) == (13, 10, 3, 13)
    assert summary["judged_prompts"] == 10
    assert [summary[name]["count"] for name in ("win", "tie", "loss")] == [5, 3, 2]
    assert [summary[name]["share"] for name in ("win", "tie", "loss", "win_rate")] == [0.5, 0.3, 0.2, 0.65]
    assert summary["inconsistent"]["share"] == 0.3
    assert (summary["inconsistent"]["always_first"], summary["inconsistent"]["always_second"]) == (2, 1)
    assert summary["win_rate_a_first"]["share"] == 0.7  # 5 wins and 2 by place
    assert summary["win_rate_b_first"]["share"] == 0.6  # 5 wins and 1 by place
    assert summary["first_preferred"]["share"] == pytest.approx((7 + 4) / 20)
    assert summary["agreement"]["share"] == 0.5
    assert summary["agreement_of_consistent"]["share"] == pytest.approx(5 / 7)
    assert summary["agreement_of_consistent"]["n"] == 7


def test_intervals_of_one_pair_for_each_prompt_are_wilsons():
    summary = of([WIN] * 14 + [LOSS] * 4 + [FIRST] * 2)
    for name, count, n in (("win", 14, 20), ("tie", 2, 20), ("loss", 4, 20), ("agreement_of_consistent", 14, 18)):
        assert summary[name]["interval"] == pytest.approx(wilson(count, n)) and summary[name]["method"] == "Wilson"


def test_pairs_of_one_prompt_are_not_independent():
    """Ten copies of each pair hold no more than one of each: the interval must not shrink by the root of ten."""
    rng = np.random.default_rng(0)
    once = [WIN if wins else LOSS for wins in rng.random(60) < 0.7]
    one = of(once)["win"]
    summary = of(once * 10 + [FIRST] * 60, list(range(60)) * 11, samples=2000)
    ten = summary["agreement_of_consistent"]
    assert summary["win"]["interval"] == pytest.approx([bound * 10 / 11 for bound in ten["interval"]])
    assert ten["method"] == "bootstrap over prompts" and ten["share"] == one["share"]
    width_one, width_ten = (high - low for low, high in (one["interval"], ten["interval"]))
    assert width_ten == pytest.approx(2 * 1.96 * math.sqrt(one["share"] * (1 - one["share"]) / 60), rel=0.1)
    assert width_ten > 0.8 * width_one


def test_the_win_rate_is_resampled_as_it_is_not_of_yes_and_no():
    judged = [WIN] * 40 + [FIRST] * 40 + [LOSS] * 20
    rate = of(judged, samples=3000)["win_rate"]
    values = np.repeat([1, 0.5, 0], [40, 40, 20])
    assert rate["method"] == "bootstrap over prompts" and "count" not in rate
    assert rate["interval"] == pytest.approx(values.mean() + np.array([-1.96, 1.96]) * values.std() / 10, abs=0.015)


def test_verdicts_that_are_all_equal_are_not_certain():
    summary = of([WIN] * 6, ["p", "p", "q", "q", "r", "r"])
    assert summary["win"]["interval"] == pytest.approx(wilson(3, 3)) and summary["win"]["interval"][0] < 0.5
    assert summary["loss"]["interval"] == pytest.approx(wilson(0, 3), abs=1e-12)
    assert summary["first_preferred"] == {"share": 0.5, "n": 6, "interval": None, "method": None}


def test_one_prompt_with_different_verdicts_has_no_interval():
    assert of([WIN, LOSS], ["p", "p"])["win"]["interval"] is None


def test_a_judge_that_goes_by_place_alone_is_exposed():
    summary = of([FIRST] * 30)
    assert summary["first_preferred"]["share"] == 1 and summary["first_preferred"]["interval"][0] > 0.8
    assert summary["win_rate"]["share"] == 0.5 and summary["inconsistent"]["share"] == 1
    assert "agreement_of_consistent" not in summary


def test_a_position_bias_that_is_planted_is_found():
    """The judge goes by place with probability 0.2, else by quality: the expected share is 0.5 + 0.2 / 2."""
    rng = np.random.default_rng(1)
    judged = []
    for _ in range(4000):
        by_place, better = rng.random(2) < 0.2, rng.choice(["a", "b"])
        judged.append(Judged("a" if by_place[0] else better, "b" if by_place[1] else better))
    low, high = of(judged, samples=200)["first_preferred"]["interval"]
    assert low < 0.6 < high and high - low < 0.02


def test_without_labels_there_is_no_agreement():
    assert not {"agreement", "agreement_of_consistent"} & set(of([WIN, LOSS], labelled=False))


def test_nothing_judged_is_told_and_not_averaged():
    assert of([NONE, NONE]) == {"pairs": 2, "prompts": 2, "judged": 0, "judged_prompts": 0, "not_judged": 2}
