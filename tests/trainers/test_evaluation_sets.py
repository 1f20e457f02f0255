"""Evaluation sets of every kind that TRL takes: one, several by name, streams."""

import pytest
from datasets import Dataset

from tests.helpers.training import attribute_trainer, gating_trainer, pair_rows, rated_rows


def make(stage: str, folder, held_out, **settings):
    if stage == "gating":
        return gating_trainer(folder, pair_rows(), held_out, max_steps=4, **settings)
    return attribute_trainer(folder, rated_rows(), held_out, max_steps=4, freeze_backbone=True, **settings)


ROWS = {"gating": pair_rows(6, seed=5), "attributes": rated_rows(6, seed=5)}


@pytest.mark.parametrize("stage", ROWS)
def test_several_sets_are_evaluated_by_name_and_choose_no_head(tmp_path, stage):
    held_out = {"one": Dataset.from_list(ROWS[stage]), "other": Dataset.from_list(ROWS[stage][:3])}
    trainer = make(stage, tmp_path, held_out)
    trainer.train()
    assert {"eval_one_loss", "eval_other_loss"} <= set(trainer.evaluate())
    with pytest.raises(ValueError, match="`keep_best` needs one eval dataset to choose by, got a dict: leave it out"):
        make(stage, tmp_path, held_out, keep_best=True)


@pytest.mark.parametrize(
    "stage, remedy", [("gating", "cache_features=False"), ("attributes", "freeze_backbone=False")]
)
def test_a_stream_cannot_be_cached(tmp_path, stage, remedy):
    stream = Dataset.from_list(ROWS[stage]).to_iterable_dataset()
    for held_out in (stream, {"one": stream}):
        with pytest.raises(ValueError, match=f"a streaming dataset has no end .* set `{remedy}`, or load the dataset"):
            make(stage, tmp_path, held_out)


def test_an_uncached_gate_is_evaluated_on_a_stream(tmp_path):
    stream = Dataset.from_list(ROWS["gating"]).to_iterable_dataset()
    trainer = make("gating", tmp_path, stream, cache_features=False, eval_steps=2)
    trainer.train()
    assert trainer.evaluate()["eval_loss"] > 0
