"""What is told of a trained gate: its weights, beside how well it is known what they weigh."""

import json

from urm_hf.trainers.gate_reports import describe_gate, read_correlations

WEIGHTS = {"help": (0.6, 0.1), "depth": (-0.2, 0.05), "length": (0.2, 0.01)}


def test_weight_on_attributes_that_are_not_predicted_is_told():
    told = describe_gate(WEIGHTS, {"help": 0.5, "depth": 0.1, "length": -0.3}).splitlines()
    assert told[1] == "  help             +0.600 ± 0.100   r +0.50"
    # |-0.2| + |0.2| of 1.0; a correlation below 0 predicts nothing either
    assert told[-1].startswith(
        "40% of the weight is on depth, length, whose ratings the model hardly predicts (r below"
    )


def test_nothing_is_said_where_all_are_predicted_or_nothing_was_held_out():
    assert len(describe_gate(WEIGHTS, dict.fromkeys(WEIGHTS, 0.23)).splitlines()) == 4  # r^2 = 0.053
    told = describe_gate(WEIGHTS, {})
    assert " r " not in told and len(told.splitlines()) == 4
    assert "of the weight" not in describe_gate({"help": (0.0, 0.0)}, {"help": 0.0})


def test_correlations_are_those_of_the_attribute_stage(tmp_path):
    assert read_correlations(tmp_path) == {} and read_correlations("org/urm") == {}
    found = {"eval_pearson/help": 0.5, "eval_pearson": 0.4, "eval_nll/help": 1.0}
    (tmp_path / "eval_results.json").write_text(json.dumps(found))
    assert read_correlations(tmp_path) == {"help": 0.5}
    (tmp_path / "eval_results.json").write_text("{")
    assert read_correlations(tmp_path) == {}
