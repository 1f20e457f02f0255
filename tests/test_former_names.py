"""Every import that an earlier README, its pages, examples and benchmarks showed still works; former names say so."""

import importlib
import sys
import warnings

import numpy as np
import pytest

import urm_hf
from tests.helpers.made_uncertainties import scores_with
from urm_hf.filtering import combine_pair_uncertainty, filter_pairs, filter_scores
from urm_hf.moved import MOVED
from urm_hf.uncertainty import compute_preference_probability, compute_uncertainty

SHOWN = {
    "urm_hf": "URMConfig URMEnsemble URMEnsembleConfig URMEnsembleOutput URMForRewardModeling URMOutput RewardScorer "
    "best_of_n filter_scores measure merge_checkpoints",
    "urm_hf.bestofn.answers": "BestAnswer",
    "urm_hf.bestofn.curve": "expected_best kl_bound sizes_up_to",
    "urm_hf.bestofn.rules": "RULES Rule",
    "urm_hf.cli": "main",
    "urm_hf.cli.model_arguments": "short_names",
    "urm_hf.data": "load_rows read_jsonl",
    "urm_hf.demo.base": "load_base",
    "urm_hf.demo.data": "conversation load_answers questions",
    "urm_hf.filtering": "filter_pairs filter_scores filter_values fit_threshold pair_values",
    "urm_hf.hub": "push",
    "urm_hf.modeling": "URMConfig URMEnsemble URMEnsembleOutput URMForRewardModeling URMOutput",
    "urm_hf.modeling.distributions_urm": "total_variance",
    "urm_hf.ood": "ood_report",
    "urm_hf.report.page": "write_report",
    "urm_hf.report.terminal": "print_table",
    "urm_hf.rewards": "UncertaintyPenalizedReward",
    "urm_hf.scoring": "RewardScore RewardScorer output_rows",
    "urm_hf.trainers": "URMAttributeConfig URMAttributeTrainer URMGatingConfig URMGatingTrainer",
    "urm_hf.uncertainty": "MEASURES compare margin_gap measure preference_probability reward_interval",
}
FORMER = {
    "urm_hf.batching": "pad_batch pad_token_id",
    "urm_hf.checkpoint_files": "read_json",
    "urm_hf.clusters": "bootstrap_intervals rows_by_group",
    "urm_hf.conversations": "encode_conversation",
    "urm_hf.evaluation.conversation_keys": "as_row conversation_key",
    "urm_hf.features": "output_of_cached pooled_features",
    "urm_hf.preference_pairs": "build_preference_pairs",
    "urm_hf.published": "convert_published",
    "urm_hf.ratings": "is_rated ratings_array read_ratings",
    "urm_hf.score_rows": "Columns conversations_of",
    "urm_hf.trainers.adapters": "complete_adapter load_merged save_adapter_with_head",
    "urm_hf.trainers.metrics": "attribute_metrics",
}


@pytest.mark.parametrize("module", SHOWN)
def test_a_public_name_stays_where_it_was(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        for name in SHOWN[module].split():
            exec(f"from {module} import {name}", {})


@pytest.mark.parametrize("module", FORMER)
def test_a_module_that_moved_is_found_and_says_where_it_is(module, monkeypatch):
    monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.warns(DeprecationWarning, match=f"{module} is now urm_hf.{MOVED[module.removeprefix('urm_hf.')]}"):
        moved = importlib.import_module(module)
    assert [name for name in FORMER[module].split() if not hasattr(moved, name)] == []


@pytest.mark.parametrize("former, new", MOVED.items())
def test_every_moved_module_is_the_new_one(former, new):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert importlib.import_module(f"urm_hf.{former}") is importlib.import_module(f"urm_hf.{new}")


def test_a_renamed_function_gives_what_the_new_one_gives():
    low, high = scores_with([1.0, 3.0]), scores_with([2.0, 0.5])
    values = compute_uncertainty(low, "reward_std"), compute_uncertainty(high, "reward_std")
    with pytest.warns(DeprecationWarning, match="measure is now compute_uncertainty"):
        np.testing.assert_array_equal(urm_hf.measure(low, name="reward_std"), values[0])
    with pytest.warns(DeprecationWarning, match="compare is now compute_preference_probability"):
        np.testing.assert_array_equal(urm_hf.compare(low, high), compute_preference_probability(low, high))
    with pytest.warns(DeprecationWarning, match="pair_values is now combine_pair_uncertainty"):
        np.testing.assert_array_equal(urm_hf.pair_values(*values, above="both"), [1.0, 0.5])
    np.testing.assert_array_equal(combine_pair_uncertainty(*values), [2.0, 3.0])


def test_a_renamed_argument_is_taken_under_both_names():
    scores, others = scores_with([1.0, 3.0]), scores_with([2.0, 0.5])
    with pytest.warns(DeprecationWarning, match="`by` is now `measure`"):
        assert filter_scores(scores, by="reward_std", threshold=2).indices.tolist() == [0]
    with pytest.warns(DeprecationWarning, match="`by` is now `measure`"):
        assert filter_pairs(scores, others, by="reward_std", threshold=2).indices.tolist() == [0]
    assert filter_scores(scores, measure="reward_std", threshold=2).indices.tolist() == [0]
    assert filter_pairs(scores, others, measure="reward_std", threshold=2).indices.tolist() == [0]
    for arguments in ({}, {"measure": "reward_std", "by": "reward_std"}):
        with pytest.raises(ValueError, match="Give `measure`, a key of `urm_hf.uncertainty.MEASURES`"):
            filter_scores(scores, threshold=2, **arguments)
