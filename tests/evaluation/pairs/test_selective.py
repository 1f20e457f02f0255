"""Risk-coverage against brute force over all orders of ties, scikit-learn, and the filter that users call."""

import json
from dataclasses import asdict
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.helpers.made_scores import ensemble_pairs, scalar_pairs, table, urm_pairs
from urm_hf.evaluation.pairs.selective import POINTS, SHARES, RiskCoverage, oracle_aurc, selective, uncertainties
from urm_hf.uncertainty.filtering import filter_pairs, filter_values
from urm_hf.uncertainty.measures import compute_preference_probability, margin_gap

MARGIN = "margin near 0"
RNG = np.random.default_rng(0)
MARGINS = RNG.normal(0.6, 1.5, 150)
TIED = np.array([3.0, -3.0, 1.0, 1.0, -1.0, 0.0, 2.0, -2.0])  # of equal size in groups of 2, 3, 1 and 2


def error_among(wrong, kept) -> float:
    return sum(bool(wrong[i]) for i in kept) / len(kept)


def aurc_by_hand(values, wrong) -> float:
    """The mean over k of the error of the k surest, in the order of the rows where uncertainties are equal."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    return sum(error_among(wrong, order[: k + 1]) for k in range(len(values))) / len(values)


def aurc_over_orders(values, wrong) -> float:
    """Its mean over all orders of the rows."""
    rows = [list(order) for order in permutations(range(len(values)))]
    return sum(aurc_by_hand([values[i] for i in row], [wrong[i] for i in row]) for row in rows) / len(rows)


def found_for(margins, **settings) -> dict:
    return table(selective(scalar_pairs(margins), **{"samples": 0} | settings))


def risk_coverage(values, wrong, counts=None) -> RiskCoverage:
    """Of rows, by a loop over the values that occur."""
    counts = np.ones((1, len(values)), int) if counts is None else counts
    inside = [np.asarray(values) == value for value in sorted(set(values))]
    return RiskCoverage(
        *(np.stack([(counts * w)[:, i].sum(1) for i in inside], 1) for w in (1, np.asarray(wrong, int)))
    )


def test_aurc_is_that_written_out():
    assert found_for(MARGINS)["aurc", MARGIN, None].value == pytest.approx(
        aurc_by_hand(-np.abs(MARGINS), MARGINS <= 0)
    )


def test_the_gain_is_that_of_the_kept_over_all_in_the_same_samples():
    pairs = scalar_pairs(MARGINS)
    found = table(selective(pairs, 400))
    values, right = -np.abs(MARGINS), MARGINS > 0
    rng = np.random.default_rng(7)
    for share in ("0.9", "0.8", "0.5"):
        gain, kept = (found[metric, MARGIN, share] for metric in ("accuracy_gain", "accuracy_kept"))
        assert gain.value == pytest.approx(kept.value - right.mean()) and gain.n == 150
        draws = []
        for rows in (rng.integers(0, 150, 150) for _ in range(1000)):
            surest = rows[filter_values(values[rows], keep=float(share)).kept]
            draws.append(right[surest].mean() - right[rows].mean())
        assert gain.interval == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)
    paired = found["accuracy_gain", MARGIN, "0.9"].interval
    apart = found["accuracy_kept", MARGIN, "0.9"].interval
    assert paired[1] - paired[0] < 0.7 * (apart[1] - apart[0])


def test_ties_count_as_the_mean_of_all_their_orders():
    expected = aurc_over_orders((-np.abs(TIED[:7])).tolist(), (TIED[:7] <= 0).tolist())
    assert found_for(TIED[:7])["aurc", MARGIN, None].value == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_does_not_matter(seed):
    margins = np.round(MARGINS, 1)
    shuffled = np.random.default_rng(seed).permutation(margins)
    before, after = (selective(scalar_pairs(m), samples=0) for m in (margins, shuffled))
    assert [one.value for one in after.metrics] == pytest.approx([one.value for one in before.metrics], abs=1e-12)
    assert after.curves[0].y == pytest.approx(before.curves[0].y)


def test_excess_aurc_is_that_over_an_order_with_all_errors_last():
    wrong = MARGINS <= 0
    found = found_for(MARGINS)
    expected = found["aurc", MARGIN, None].value - aurc_by_hand(wrong.astype(float), wrong)
    assert found["excess_aurc", MARGIN, None].value == pytest.approx(expected) and expected > 0


@pytest.mark.parametrize("n, errors", [(1, 0), (1, 1), (7, 3), (40, 40), (40, 0)])
def test_the_oracle_s_aurc_is_that_written_out(n, errors):
    wrong = np.arange(n) >= n - errors
    found = oracle_aurc(np.array([n]), np.array([errors])).item()
    assert found == pytest.approx(aurc_by_hand(wrong.astype(float), wrong))


def test_an_uncertainty_that_knows_every_error_has_no_excess_and_one_that_knows_nothing_the_error():
    wrong = np.array([False] * 6 + [True] * 4)
    perfect = risk_coverage(wrong.astype(float), wrong).metrics([1.0])
    assert perfect["excess_aurc"].item() == pytest.approx(0, abs=1e-12) and perfect["auroc_errors"].item() == 1
    constant = risk_coverage(np.zeros(10), wrong).metrics([1.0])
    assert constant["aurc"].item() == pytest.approx(0.4) and constant["auroc_errors"].item() == 0.5


@pytest.mark.parametrize("decimals", [0, 1, 9])
def test_counts_are_repetitions(decimals):
    """What samples of prompts are measured by, against rows that really occur so often."""
    values, wrong = np.round(-np.abs(MARGINS), decimals), MARGINS <= 0
    counts = np.random.default_rng(1).integers(0, 3, (4, 150))
    found = risk_coverage(values, wrong, counts).metrics([0.5, 0.83, 1.0])
    for number, row in enumerate(counts):
        v, w = np.repeat(values, row), np.repeat(wrong, row)
        alone = risk_coverage(v, w).metrics([0.5, 0.83, 1.0])
        for metric, value in alone.items():
            assert found[metric][number] == pytest.approx(value[0], abs=1e-12)
        assert found["auroc_errors"][number] == pytest.approx(roc_auc_score(w, v))
        for place, share in enumerate([0.5, 0.83, 1.0]):
            kept = filter_values(v, keep=share).kept
            assert found["errors"][number, place] == pytest.approx(w[kept].mean())
            assert found["kept"][number, place] == pytest.approx(kept.mean())


def test_auroc_is_that_of_sklearn():
    found = found_for(MARGINS)["auroc_errors", MARGIN, None]
    assert found.value == pytest.approx(roc_auc_score(MARGINS <= 0, -np.abs(MARGINS)))


@pytest.mark.parametrize("share", SHARES)
def test_what_is_kept_is_what_the_filter_keeps(share):
    margins = np.round(MARGINS)  # many ties
    found = found_for(margins)
    kept = filter_values(-np.abs(margins), keep=share).kept
    accuracy, part = (found[name, MARGIN, str(share)] for name in ("accuracy_kept", "share_kept"))
    assert (accuracy.value, accuracy.n, accuracy.level) == (
        pytest.approx((margins > 0)[kept].mean()),
        kept.sum(),
        "kept",
    )
    assert part.value == kept.mean() > share and part.interval is None


def test_the_curve_ends_with_everything_and_keeps_what_the_filter_keeps():
    pairs = scalar_pairs(MARGINS)
    curve = selective(pairs, samples=50).curves[0]
    assert (curve.curve, curve.variant, len(curve.x)) == ("risk_coverage", MARGIN, POINTS)
    assert curve.x[-1] == 1 and curve.y[-1] == pytest.approx((MARGINS <= 0).mean())
    for x, y, low, high in zip(*(getattr(curve, name) for name in ("x", "y", "low", "high"))):
        kept = filter_values(-np.abs(MARGINS), keep=x).kept
        assert (kept.mean(), (MARGINS <= 0)[kept].mean()) == (pytest.approx(x), pytest.approx(y))
        assert 0 <= low <= high <= 1


def test_the_band_of_the_whole_curve_is_the_interval_of_the_error():
    curve = selective(scalar_pairs(MARGINS), samples=3000).curves[0]
    error = (MARGINS <= 0).mean()
    half = 1.96 * np.sqrt(error * (1 - error) / 150)
    assert (curve.low[-1], curve.high[-1]) == (
        pytest.approx(error - half, abs=0.01),
        pytest.approx(error + half, abs=0.01),
    )


def test_a_curve_of_ties_has_a_point_for_each_share_that_can_be_kept():
    curve = selective(scalar_pairs(TIED), samples=0).curves[0]
    assert curve.x == pytest.approx([2 / 8, 4 / 8, 7 / 8, 1])
    assert curve.y == pytest.approx([1 / 2, 2 / 4, 3 / 7, 4 / 8])
    alone = selective(scalar_pairs([1.0, -1.0, 1.0]), samples=0).curves[0]
    assert (alone.x, alone.y) == ([1.0], [pytest.approx(1 / 3)])


@pytest.mark.parametrize(
    "margins, told", [([1.0, 2.0, 3.0], "no pair is wrong"), ([-1.0, 0.0], "every pair is wrong"), ([1.0], "no pair")]
)
def test_without_errors_or_without_anything_else_there_is_no_auroc(margins, told):
    found = selective(scalar_pairs(margins), samples=40)
    assert told in found.absent[f"auroc_errors ({MARGIN})"]
    values = table(found)
    assert ("auroc_errors", MARGIN, None) not in values
    assert values["aurc", MARGIN, None].value == float(margins[0] <= 0)
    assert values["excess_aurc", MARGIN, None].value == 0
    numbers = [[one.value, one.interval] for one in found.metrics]
    json.dumps([numbers, [asdict(curve) for curve in found.curves]], allow_nan=False)


def test_one_prompt_has_values_and_no_intervals():
    found = selective(scalar_pairs(TIED, ["x"] * 8), samples=40)
    assert all(one.interval is None for one in found.metrics)
    assert found.curves[0].low == [None] * 4
    json.dumps([asdict(curve) for curve in found.curves], allow_nan=False)


def test_nothing_but_right_pairs_kept_has_the_exact_interval():
    margins = np.concatenate([np.linspace(5, 9, 20), [0.5, -0.5] * 5])
    found = found_for(margins, samples=50)["accuracy_kept", MARGIN, "0.5"]
    assert found.value == 1 and found.interval == (pytest.approx(0.025 ** (1 / found.n)), 1)


def test_intervals_hold_their_values_and_do_not_narrow_when_pairs_are_repeated():
    prompts = [f"prompt {i}" for i in range(150)]
    once = table(selective(scalar_pairs(MARGINS, prompts), samples=300))
    many = table(selective(scalar_pairs(np.tile(MARGINS, 4), prompts * 4), samples=300))
    for metric in ("excess_aurc", "auroc_errors"):
        low, high = once[metric, MARGIN, None].interval
        assert low < once[metric, MARGIN, None].value < high
        assert many[metric, MARGIN, None].interval == pytest.approx((low, high), abs=0.012)
    assert (many["aurc", MARGIN, None].n, many["aurc", MARGIN, None].prompts) == (600, 150)


def test_a_scalar_model_has_only_its_margin():
    assert list(uncertainties(scalar_pairs(MARGINS))) == [MARGIN]


def test_a_urm_has_measures_and_a_probability():
    pairs = urm_pairs(MARGINS, *RNG.uniform(0.5, 2, (2, 150)))
    found = uncertainties(pairs)
    assert list(found) == ["attribute_variance", "covariance_norm", "reward_std", "probability near 1/2", MARGIN]
    near_half = -np.abs(compute_preference_probability(pairs.chosen, pairs.rejected) - 0.5)
    assert np.argsort(found["probability near 1/2"]).tolist() == np.argsort(near_half).tolist()


def test_probabilities_that_round_to_one_still_have_an_order():
    pairs = urm_pairs([1.0, 2.0, 3.0], [1e-3] * 3, [1e-3] * 3)
    assert (compute_preference_probability(pairs.chosen, pairs.rejected) == 1).all()
    assert np.argsort(uncertainties(pairs)["probability near 1/2"]).tolist() == [2, 1, 0]
    certain = urm_pairs([1.0, -2.0, 0.0], [0.0] * 3, [0.0] * 3)
    assert np.isfinite(uncertainties(certain)["probability near 1/2"]).all()
    selective(certain, samples=5)


@pytest.mark.parametrize("above", ["either", "both"])
def test_an_ensemble_has_all_of_them_and_either_or_both_sides_are_filtered(above):
    pairs = ensemble_pairs(40)
    found = uncertainties(pairs, above)
    assert set(found) >= {
        "epistemic",
        "total",
        "attribute_gap",
        "reward_gap",
        "reward_epistemic",
        "margin gap",
        MARGIN,
    }
    assert "aleatoric" not in found
    assert found["margin gap"] == pytest.approx(margin_gap(pairs.chosen, pairs.rejected))
    values = table(selective(pairs, samples=0, above=above))
    kept = filter_pairs(pairs.chosen, pairs.rejected, "reward_gap", keep=0.5, above=above).kept
    assert values["accuracy_kept", "reward_gap", "0.5"].value == pytest.approx(pairs.right[kept].mean())
