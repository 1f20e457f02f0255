"""What a card shows of an evaluation: the gain of filtering, that a benchmark is not whole, and no local path."""

from pathlib import Path

from tests.helpers.simulated_results import Simulated, decisions, model, preference_set
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.hub.card.evaluate_results import build_results

RIGHT = decisions(300, 0.7, 1)


def shown(**data) -> list:
    simulated = Simulated(model("a", source="/home/me/a"))
    simulated.preferences(preference_set("rb", source="/home/me/rb.jsonl", **data), {"a": RIGHT})
    simulated.known("rb", "a", RIGHT, {"reward_std": 0.5}, {})
    return build_results(EvaluationResults.from_json(simulated.done()), ["/home/me/a"], Path("results.json"))


def test_the_gain_stands_beside_what_is_kept():
    found = {result.metric: result for result in shown() if result.variant == "reward_std"}
    assert found["accuracy_kept"].value - found["accuracy_gain"].value == RIGHT.mean()
    assert found["accuracy_gain"].interval


def test_a_part_of_a_benchmark_is_not_called_by_its_name_alone():
    assert {result.data for result in shown()} == {"rb"}
    assert {result.data for result in shown(remarks=["Chat is missing."])} == {"rb (in part)"}


def test_no_path_of_a_machine_is_shown():
    assert "/home" not in str(shown())
