"""results.json: read into dataclasses and written again, old files too; what is damaged is told with its place."""

import json

import numpy as np
import pytest

from tests.helpers.simulated_results import Simulated, decisions, model, preference_set
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults


def simulated() -> dict:
    right = {"a": decisions(200, 0.7, 1), "b": decisions(200, 0.6, 2)}
    made = Simulated(model("a"), model("b"), baselines=("random",))
    made.preferences(preference_set("x", n=200), right)
    made.known("x", "a", right["a"], {"reward_std": 0.5}, {"logistic": 1.5})
    return made.done()


def change(content: dict, *path, value) -> dict:
    """The content with one value changed, or taken out where it is None."""
    at = content
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return content


def test_what_is_read_is_written_again():
    content = simulated()
    written = EvaluationResults.from_json(content).to_json()
    for name in ("metrics", "comparisons", "curves"):
        for entry, before in zip(json.loads(json.dumps(written[name])), content[name], strict=True):
            assert entry | before == entry  # what stood there stands there still
    again = EvaluationResults.from_json(json.loads(json.dumps(written)))
    assert again.to_json() == written and again.metrics == EvaluationResults.from_json(content).metrics


def test_a_file_that_does_not_say_what_it_counts_is_read_by_its_benchmark():
    content = simulated()
    content["data"] = [preference_set("y", "rewardbench2"), preference_set("z", "of another house")]
    known, unknown = EvaluationResults.from_json(content).data
    assert (known.noun, known.mean) == ("prompt", "the mean of its subsets")
    assert (unknown.noun, unknown.mean) == ("pair", "")


def test_a_value_that_is_null_was_not_measured():
    content = simulated()
    content["metrics"][0]["value"] = None
    assert len(EvaluationResults.from_json(content).metrics) == len(content["metrics"]) - 1


def test_a_comparison_is_found_from_both_sides():
    results = EvaluationResults.from_json(simulated())
    one, other = results.compare("x", "a", "b"), results.compare("x", "b", "a")
    assert one.difference == -other.difference and one.interval == tuple(-bound for bound in other.interval[::-1])
    assert (one.only_a, one.only_b) == (other.only_b, other.only_a)
    assert results.compare("x", "a", "nobody") is None


def test_numbers_are_looked_up_by_their_place():
    results = EvaluationResults.from_json(simulated())
    accuracy = results.get("x", "a", "accuracy")
    assert isinstance(accuracy, Measured) and accuracy.value == pytest.approx(np.mean(decisions(200, 0.7, 1)))
    assert [name for name, _ in results.rank("x")] == ["a", "b"] and results.chance("x") == 0.5
    assert results.variants("x", "a", "auroc_errors") == ["reward_std"]


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("schema",), "another", "`schema` is 'another'"),
        (("version",), 9, "results of version 9"),
        (("metrics",), {}, "no list metrics"),
        (("metrics", 2), 7, r"metrics\[2\] is 7, not a mapping"),
        (("metrics", 1, "value"), "high", r"metrics\[1\] has the `value` 'high'"),
        (("metrics", 1, "model"), None, r"metrics\[1\] lacks 'model'"),
        (("metrics", 0, "interval"), [0.1], r"metrics\[0\] has the `interval` \[0.1\]"),
        (("comparisons", 0, "difference"), None, r"comparisons\[0\] lacks 'difference'"),
        (("curves", 0, "y"), [0.5], r"lists of curves\[0\] have several lengths"),
        (("data", 0, "kind"), None, r"data\[0\] lacks 'kind'"),
    ],
)
def test_damaged_results_are_told_with_their_place(path, value, told, tmp_path):
    file = tmp_path / "results.json"
    file.write_text(json.dumps(change(simulated(), *path, value=value)))
    with pytest.raises(ValueError, match=f"{file}: .*{told}"):
        EvaluationResults.read(file)


def test_a_file_that_is_no_json_is_told(tmp_path):
    (tmp_path / "results.json").write_text("{")
    with pytest.raises(ValueError, match="results.json is not JSON"):
        EvaluationResults.read(tmp_path / "results.json")
