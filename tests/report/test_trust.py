"""The sentences on which rewards to trust, and on how honest probabilities are: of each model, or of many at once."""

import pytest

from tests.helpers.simulated_results import Simulated, decisions, measured, model, preference_set
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.report.trust import calibration_findings, trust_findings

BASE = decisions(400, 0.6, 1)


def trusted(signals: dict[str, float], accuracy: float = 0.7) -> list:
    right = decisions(600, accuracy, 1)
    simulated = Simulated(model("a"), baselines=()).preferences(preference_set("hh", n=600), {"a": right})
    simulated.known("hh", "a", right, signals, {})
    view = EvaluationResults.from_json(simulated.done())
    return [view, *trust_findings(view, view.data[0])]


def test_a_measure_that_tells_errors_is_named_with_what_it_buys():
    view, found = trusted({"margin near 0": 0.4, "reward_std": 1.2})
    auroc = view.get("hh", "a", "auroc_errors", variant="reward_std")
    kept = view.get("hh", "a", "accuracy_kept", "kept", "0.8", "reward_std")
    text = str(found)
    assert (
        "errors are flagged best by the predicted spread of the reward (reward_std)" in text and found.tone == "good"
    )
    assert f"AUROC {auroc.value:.2f} [{auroc.interval[0]:.2f}, {auroc.interval[1]:.2f}]" in text
    gain = view.get("hh", "a", "accuracy_gain", "kept", "0.8", "reward_std")
    assert f"takes accuracy from 70.0 % to {100 * kept.value:.1f} %: +{100 * gain.value:.1f} points [" in text
    assert text.split("points [")[1].split("]")[1].startswith(", unlikely to be noise. ")
    margin = view.get("hh", "a", "auroc_errors", variant="margin near 0")
    assert f"does less ({margin.value:.2f}" in text


def test_a_measure_that_no_uncertainty_beats_is_said_to_need_none():
    _, found = trusted({"margin near 0": 1.0, "reward_std": 0.0})
    assert "This needs no uncertainty; what the model says of its own does no better (best 0." in str(found)


@pytest.mark.parametrize(
    ("signals", "tried"),
    [({"reward_std": 0.0}, "The one measure"), ({"reward_std": 0.0, "epistemic": -1.0}, "None of 2")],
)
def test_where_no_interval_lies_above_one_half_no_reward_is_safer(signals, tried):
    _, found = trusted(signals)
    assert "no reward is known to be safer than another" in str(found) and tried in str(found)
    assert found.tone == "warning"


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ([-0.01, 0.03], "which may be noise"),
        ([0.001, 0.03], "unlikely to be noise"),
        ([-0.03, -0.01], "unlikely to be noise"),
        (None, "which may be noise"),
    ],
)
def test_a_gain_is_told_with_its_noise(interval, told):
    simulated = Simulated(model("a"), baselines=()).preferences(preference_set("hh", n=400), {"a": BASE})
    kept = {"level": "kept", "group": "0.8", "variant": "reward_std"}
    simulated.add("hh", "a", [measured("auroc_errors", 0.56, [0.51, 0.62], variant="reward_std")])
    simulated.add("hh", "a", [measured("accuracy_kept", 0.61, [0.5, 0.7], **kept)])
    simulated.add("hh", "a", [measured("accuracy_gain", 0.01, interval, **kept)])
    view = EvaluationResults.from_json(simulated.done())
    (found,) = trust_findings(view, view.data[0])
    assert "takes accuracy from 60.0 % to 61.0 %: +1.0 points" in str(found) and told in str(found)


def test_many_models_share_sentences():
    names = ["a", "b", "c", "d"]
    simulated = Simulated(*map(model, names), baselines=())
    simulated.preferences(preference_set("hh", n=400), {name: decisions(400, 0.6, k) for k, name in enumerate(names)})
    for name, low, temperature in zip(names, (0.45, 0.51, 0.46, 0.47), (3.0, 2.0, 1.0, 4.0), strict=True):
        simulated.add("hh", name, [measured("auroc_errors", low + 0.05, [low, low + 0.1], variant="reward_std")])
        spread = [temperature * 0.8, temperature * 1.2]
        simulated.add("hh", name, [measured("temperature", temperature, spread, variant="logistic")])
        high = 0.7 if name in "ab" else 0.68
        simulated.add("hh", name, [measured("nll", 0.67, [0.66, high], variant="logistic, tempered")])
    view = EvaluationResults.from_json(simulated.done())
    helped, lost = map(str, trust_findings(view, view.data[0]))
    assert helped.startswith("b: flagged best by the predicted spread of the reward (reward_std), AUROC 0.56")
    assert lost.startswith("a, c and d: no reward is known to be safer than another. The one measure tried")
    assert "(best AUROC 0.52 [0.47, 0.57]" in lost
    assert list(map(str, calibration_findings(view, view.data[0]))) == [
        "Too sure (temperature): a (logistic, 3.00), b (logistic, 2.00) and d (logistic, 4.00).",
        "About as sure as they should be (temperature): c (logistic, 1.00).",
        "After temperature, the probabilities of a (logistic) or b (logistic) are not shown to say more than “one "
        "half” always (NLL 0.693).",
    ]


@pytest.mark.parametrize(("low", "tone"), [(0.49, "warning"), (0.51, "good")])
def test_a_measure_counts_only_if_its_interval_leaves_out_chance(low, tone):
    simulated = Simulated(model("a"), baselines=()).preferences(preference_set("hh", n=400), {"a": BASE})
    simulated.add("hh", "a", [measured("auroc_errors", 0.56, [low, 0.62], variant="reward_std")])
    view = EvaluationResults.from_json(simulated.done())
    assert [finding.tone for finding in trust_findings(view, view.data[0])] == [tone]


@pytest.mark.parametrize(
    ("temperature", "interval", "told"),
    [
        (2.0, None, "too sure"),
        (0.5, None, "not sure enough"),
        (1.3, [0.9, 1.8], "about as sure as they should be"),
        (1.3, [1.1, 1.8], "too sure"),
        (0.9, [0.8, 0.95], "not sure enough"),
    ],
)
def test_probabilities_are_judged_by_the_interval_of_their_temperature(temperature, interval, told):
    right = decisions(600, 0.7, 1)
    simulated = Simulated(model("a"), baselines=()).preferences(preference_set("hh", n=600), {"a": right})
    simulated.known("hh", "a", right, {}, {"gaussian": temperature})
    for entry in simulated.content["metrics"]:
        if entry["metric"] == "temperature":
            entry["interval"] = interval
        if entry["metric"] == "nll" and entry["variant"] == "gaussian, tempered":
            entry["interval"] = [0.6, 0.69 if told == "too sure" else 0.7]
    view = EvaluationResults.from_json(simulated.done())
    (found,) = calibration_findings(view, view.data[0])
    assert f"a, Gaussian probabilities: {told} (temperature {temperature:.2f}" in str(found)
    assert ("not shown to say more than “one half” always" in str(found)) == (told != "too sure")
