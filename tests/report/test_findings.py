"""The sentences: which model is better, by how much, whether that is noise, and which rewards to trust."""

import numpy as np
import pytest
from scipy.stats import binomtest

import tests.helpers.simulated_results as simulate
from urm_hf.evaluation.entries import Comparison
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.findings import accuracy_findings, overview
from urm_hf.report.rating_findings import rating_findings
from urm_hf.report.text import certainty, format_count, format_interval, join_words, number, p_value, percent, points
from urm_hf.report.trust import row_findings

RULE = "always taking the longest answer"


def flipped(base: np.ndarray, gained: int, lost: int) -> np.ndarray:
    """Decisions that differ from others in so many items that are right now, and so many that are wrong."""
    other = base.copy()
    other[np.flatnonzero(~base)[:gained]] = True
    other[np.flatnonzero(base)[:lost]] = False
    return other


def found_of(right: dict[str, np.ndarray], **known) -> list:
    """Findings on accuracy for models of these decisions; "longest answer" is the baseline."""
    models = [name for name in right if name != "longest answer"]
    baselines = ("longest answer", "random") if "longest answer" in right else ("random",)
    simulated = simulate.Simulated(*map(simulate.model, models), baselines=baselines)
    simulated.preferences(simulate.preference_set("hh", n=len(right[models[0]])), right, **known)
    view = EvaluationResults.from_json(simulated.done())
    return accuracy_findings(view, view.data[0])


BASE = simulate.decisions(400, 0.6, 1)


@pytest.mark.parametrize(
    ("gained", "lost", "told", "tone"),
    [(70, 20, "unlikely to be noise", "good"), (30, 24, "may be noise", "plain")],
)
def test_a_difference_is_told_with_its_test(gained, lost, told, tone):
    ranking, difference, *_ = found_of({"a": BASE, "b": flipped(BASE, gained, lost)})
    better = 0.6 + (gained - lost) / 400
    assert str(ranking).startswith(f"b is right on {100 * better:.1f} % of 400 pairs [")
    assert "; a on 60.0 % [" in str(ranking)
    p = binomtest(gained, gained + lost).pvalue
    assert f"difference of {100 * (gained - lost) / 400:.1f} point" in str(difference)
    assert f"{told} (McNemar, exact: {'p < 0.001' if p < 0.001 else f'p = {p:.2f}'})" in str(difference)
    assert f"They disagree on {gained + lost} pairs: b is right on {gained} of these, a on {lost}." in str(difference)
    assert difference.tone == tone


def test_equal_models_are_equal_also_where_they_disagree():
    _, difference, *_ = found_of({"a": BASE, "b": flipped(BASE, 15, 15)})
    assert str(difference).startswith("They are right equally often (a difference of 0.0 points [")
    assert "They disagree on 30 pairs" in str(difference)
    _, difference, *_ = found_of({"a": BASE, "b": BASE})
    assert str(difference).endswith("They agree on every one.")


def test_a_test_that_loses_its_significance_among_many_is_not_called_significant():
    pair = {"a": BASE, "b": flipped(BASE, 35, 17)}
    assert "is unlikely to be noise" in str(found_of(pair)[1])
    adjusted = str(found_of(pair, adjust=20.0)[1])
    assert "may be noise among so many comparisons" in adjusted and "adjusted for several comparisons" in adjusted


@pytest.mark.parametrize(
    ("accuracies", "told", "tone"),
    [
        ((0.5, 0.55), f"b and a do not beat {RULE}", "warning"),
        ((0.5, 0.72), f"a does not beat {RULE}", "warning"),
        ((0.61, 0.615), f"b and a are above {RULE}, which needs no model and is right on 60.0 %", "warning"),
        ((0.8, 0.85), "longest answer is right on 60.0 %", "good"),
    ],
)
def test_models_are_held_against_the_longest_answer(accuracies, told, tone):
    a, b = (simulate.decisions(400, accuracy, seed) for seed, accuracy in enumerate(accuracies, 5))
    found = found_of({"a": a, "b": b, "longest answer": BASE})
    (against,) = [finding for finding in found[2:] if "longest answer" in str(finding)]
    assert told in str(against) and against.tone == tone
    assert ("by more than noise" in str(against)) == (max(accuracies) > 0.7)
    assert ("may be noise" in str(against)) == (accuracies == (0.61, 0.615))


def test_a_baseline_without_a_comparison_is_judged_by_the_interval():
    simulated = simulate.Simulated(simulate.model("a"))
    simulated.preferences(
        simulate.preference_set("hh", n=400), {"a": BASE, "longest answer": simulate.decisions(400, 0.5, 2)}
    )
    simulated.content["comparisons"] = []
    view = EvaluationResults.from_json(simulated.done())
    assert "a is above that by more than noise" in str(accuracy_findings(view, view.data[0])[1])


@pytest.mark.parametrize(
    ("accuracy", "told"),
    [(0.52, "is not told apart from guessing (50.0 %)"), (0.4, "is worse than guessing"), (0.6, None)],
)
def test_guessing_is_named_only_where_it_is_not_beaten(accuracy, told):
    found = found_of({"a": simulate.decisions(400, accuracy, 1)})
    assert len(found) == (2 if told else 1)
    assert told is None or told in str(found[1])


def test_one_model_is_not_compared():
    (only,) = found_of({"a": simulate.decisions(400, 0.7, 1)})
    low, high = np.quantile([0.7 - 1.96 * np.sqrt(0.21 / 400), 0.7 + 1.96 * np.sqrt(0.21 / 400)], [0, 1])
    assert str(only) == f"a is right on 70.0 % of 400 pairs [{100 * low:.1f}, {100 * high:.1f}]."


def test_of_many_models_the_best_is_told_from_those_it_may_not_be_better_than():
    right = {name: flipped(BASE, gained, 2) for name, gained in (("a", 2), ("b", 60), ("c", 65), ("d", 10))}
    ranking, lead = found_of(right)[:2]
    assert "b comes next with" in str(ranking) and "the other 2 reach 60.0 % to 62.0 %" in str(ranking)
    text = str(lead)
    assert "The lead of c over d and a is unlikely to be noise; over b may be noise" in text or (
        "over b" in text and text.index("d and a is unlikely") < text.index("over b")
    )
    assert lead.tone == "plain"


def test_what_the_overall_accuracy_is_a_mean_of_is_said():
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
    right = {"a": BASE, "b": flipped(BASE, 70, 20)}
    simulated.preferences(simulate.preference_set("rb", "rewardbench", 400), right)
    view = EvaluationResults.from_json(simulated.done())
    ranking, difference = accuracy_findings(view, view.data[0])
    assert "b is right on 72.5 % of 400 pairs (the mean of its sections)" in str(ranking)
    assert "12.5 points" in str(difference)


def test_over_several_data_sets_wins_are_counted():
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
    for place, (gained, lost) in enumerate([(80, 5), (10, 8), (5, 60)]):
        simulated.preferences(
            simulate.preference_set(f"d{place}", n=400), {"a": BASE, "b": flipped(BASE, gained, lost)}
        )
    (found,) = overview(EvaluationResults.from_json(simulated.done()))
    ahead = "(ahead of all others by more than noise on 1)"
    assert str(found) == f"b has the highest accuracy on 2 of 3 data sets {ahead}, a on 1 {ahead}."


def test_where_nobody_is_ahead_by_more_than_noise_that_is_said_once():
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
    for place, (gained, lost) in enumerate([(8, 5), (10, 8), (5, 6)]):
        simulated.preferences(
            simulate.preference_set(f"d{place}", n=400), {"a": BASE, "b": flipped(BASE, gained, lost)}
        )
    (found,) = overview(EvaluationResults.from_json(simulated.done()))
    first = "b has the highest accuracy on 2 of 3 data sets, a on 1."
    assert str(found) == f"{first} No lead over all others is more than noise."


def test_what_all_of_many_models_miss_is_said_once():
    right = {name: simulate.decisions(400, 0.5, seed) for seed, name in enumerate("abc")}
    text = " ".join(map(str, found_of({**right, "longest answer": simulate.decisions(400, 0.6, 9)})))
    assert f"None of the 3 models beats {RULE}" in text
    assert "None of the 3 models is told apart from guessing (50.0 %)" in text


def ratings(**of_models: list[dict]) -> list[str]:
    simulated = simulate.Simulated(*map(simulate.model, of_models), baselines=("constant",))
    constant = [simulate.measured("nll", 1.5), *simulate.noise_ceilings([], 0.5, 1.2)]
    simulated.rated(simulate.preference_set("webnlg", "ratings"), **of_models, constant=constant)
    view = EvaluationResults.from_json(simulated.done())
    return [str(finding) for finding in rating_findings(view, view.data[0])]


def rows(pearson, coverage, nll) -> list[dict]:
    r = simulate.measured("pearson", sum(pearson) / 2, list(pearson), 144)
    return [
        r,
        simulate.measured("coverage95", sum(coverage) / 2, list(coverage)),
        simulate.measured("nll", nll, [nll - 0.1, nll + 0.1]),
    ]


def test_ratings_are_told_with_ceiling_constant_and_coverage():
    found = ratings(a=rows((0.5, 0.6), (0.93, 0.97), 1.4), b=rows((0.1, 0.3), (0.5, 0.6), 1.6))
    text = " ".join(found)
    assert (
        "not shown to follow" not in text
        and "144 conversations: a with r = 0.55 [0.50, 0.60] and b with r = 0.20 [0.10, 0.30]" in text
    )
    assert "do not overlap: the lead is unlikely to be noise" in text
    assert "reach r = 0.50 [0.44, 0.56]: the noise ceiling" in text
    assert "b does not beat one constant prediction" in text and "a does not" not in text
    assert "intervals of a hold 95 % [93, 97] of single ratings: they are honest" in text
    assert "intervals of b hold 55 % [50, 60] of single ratings: they are too narrow" in text
    overlapping = " ".join(ratings(a=rows((0.2, 0.6), (0.96, 0.99), 1.4), b=rows((0.1, 0.3), (0.9, 0.97), 1.4)))
    assert "overlap: the lead may be noise" in overlapping and "wider than needed" in overlapping


def test_likelihoods_that_were_compared_are_told_lower_first():
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
    simulated.rated(
        simulate.preference_set("w", "ratings"),
        a=simulate.rating_metrics([], 0.3, 0.9, 1),
        b=rows((0, 0.1), (0.9, 0.99), 1.0),
    )
    compared = {
        "data": "w",
        "model_a": "a",
        "model_b": "b",
        "difference": 0.35,
        "interval": [0.2, 0.5],
        "metric": "nll",
    }
    test = {"only_a": None, "only_b": None, "p_value": 0.01, "p_adjusted": 0.01, "test": "sign flips by prompt"}
    simulated.content["comparisons"].append(compared | test)
    view = EvaluationResults.from_json(simulated.done())
    text = " ".join(map(str, rating_findings(view, view.data[0])))
    assert (
        "By likelihood, b is ahead of a: its NLL is lower by 0.350 [0.200, 0.500], which is unlikely to be noise"
        in text
    )


def test_equal_likelihoods_are_called_equal():
    """0.0004 is shown as 0.000: not as a lead."""
    simulated = simulate.Simulated(simulate.model("a"), simulate.model("b"), baselines=())
    alike = rows((0.2, 0.6), (0.96, 0.99), 1.4)
    simulated.rated(simulate.preference_set("w", "ratings"), a=alike, b=alike)
    compared = {
        "data": "w",
        "model_a": "a",
        "model_b": "b",
        "difference": 0.0004,
        "interval": [-0.01, 0.01],
        "metric": "nll",
    }
    test = {"only_a": None, "only_b": None, "p_value": 0.9, "p_adjusted": 0.9, "test": "sign flips by prompt"}
    simulated.content["comparisons"].append(compared | test)
    view = EvaluationResults.from_json(simulated.done())
    text = " ".join(map(str, rating_findings(view, view.data[0])))
    assert "are equally good (a difference in NLL of 0.000 [−0.010, 0.010])." in text
    assert "nil" not in text


def test_rows_that_were_left_out_cut_or_tied_are_named():
    simulated = simulate.Simulated(simulate.model("a"), baselines=())
    data = simulate.preference_set(
        "hh", n=400, skipped={"no answer": 2, "empty": 0}, remarks=["Two domains are missing."]
    )
    simulated.preferences(data, {"a": BASE})
    tied = [entry for entry in simulated.content["metrics"] if entry["metric"] == "tied"]
    tied[0]["value"] = 0.015
    simulated.add("hh", "a", [simulate.measured("truncated", 0.25)])
    view = EvaluationResults.from_json(simulated.done())
    assert [str(finding) for finding in row_findings(view, view.data[0])] == [
        "2 rows of hh left out: 2 (no answer).",
        "hh: Two domains are missing.",
        "Conversations cut to fit: 25.0 % (a).",
        "Decisions tied, and counted as wrong: 1.5 % (a).",
    ]


def test_numbers_read_well():
    assert [number(v, 1) for v in (-0.04, 0.0, -1.25, 2.0)] == ["0.0", "0.0", "−1.2", "2.0"]
    assert number(0.04, 1, sign=True) == "0.0" and number(1.0, 1, sign=True) == "+1.0"
    assert percent(0.612).replace("\N{NO-BREAK SPACE}", " ") == "61.2 %" and format_interval(None) == ""
    assert format_interval((0.574, 0.649)).replace("\N{NO-BREAK SPACE}", " ") == "[57.4, 64.9]"
    assert [points(v).split("\N{NO-BREAK SPACE}")[1] for v in (0.01, -0.01, 0.02)] == ["point", "point", "points"]
    assert [p_value(p).replace("\N{NO-BREAK SPACE}", " ") for p in (0.0001, 0.03, 0.5)] == [
        "p < 0.001",
        "p = 0.030",
        "p = 0.50",
    ]
    assert str(join_words(["a"])) == "a" and str(join_words(["a", "b", "c"])) == "a, b and c"
    assert format_count(1, "pair").split() == ["1", "pair"] and format_count(12345, "pair").split() == [
        "12",
        "345",
        "pairs",
    ]


def comparison(interval, p: float, adjusted: float | None) -> Comparison:
    return Comparison("a", "b", 0.03, interval and tuple(interval), p, "McNemar, exact", p_adjusted=adjusted)


@pytest.mark.parametrize(
    ("interval", "p", "told"),
    [([0.01, 0.05], 0.01, "sure"), ([-0.01, 0.05], 0.2, "noise"), ([0.001, 0.05], 0.06, "borderline")]
    + [([-0.01, 0.05], 0.04, "borderline"), (None, 0.04, "sure"), (None, 0.05, "noise")],
)
def test_noise_is_ruled_out_only_by_interval_and_test_together(interval, p, told):
    assert certainty(comparison(interval, p, None)) == certainty(comparison(interval, p, p)) == told


@pytest.mark.parametrize(
    ("interval", "adjusted", "told"),
    [
        ([0.01, 0.05], 0.049, "sure"),
        ([0.01, 0.05], 0.06, "many"),
        (None, 0.06, "many"),
        ([-0.01, 0.05], 0.06, "noise"),
    ],
)
def test_what_would_count_alone_may_be_noise_among_many(interval, adjusted, told):
    assert certainty(comparison(interval, 0.01, adjusted)) == told


def test_a_model_that_predicts_the_opposite_is_said_to():
    found = " ".join(ratings(a=rows((-0.95, -0.88), (0.93, 0.97), 1.4), b=rows((-0.1, 0.3), (0.93, 0.97), 1.4)))
    assert "a predicts the opposite of them" in found
    assert "b is not shown to follow them at all" in found and "a is not shown" not in found
