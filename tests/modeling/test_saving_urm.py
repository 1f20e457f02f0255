"""Saving and loading: every tensor comes back, or the checkpoint is refused."""

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.tiny import FAMILIES, pad_rows, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.urm_numbers import (
    ROWS,
    assert_equal_state,
    edit_weights,
    run,
    save_tiny,
    standardise_features,
)
from urm_hf.modeling import URMForRewardModeling


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("auto", [URMForRewardModeling, AutoModel, AutoModelForSequenceClassification])
def test_every_tensor_survives_saving_and_loading(family, auto, tmp_path):
    model = standardise_features(tiny_urm(family))
    model.save_pretrained(tmp_path)
    again = auto.from_pretrained(tmp_path)
    assert type(again) is URMForRewardModeling
    assert not again.training
    assert_equal_state(again, model)


def test_every_tensor_survives_saving_in_shards(tmp_path):
    model = tiny_urm()
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_equal_state(URMForRewardModeling.from_pretrained(tmp_path), model)


def test_a_model_with_prior_weights_survives_saving_and_loading(tmp_path):
    model = tiny_urm(attributes=["a", "b"], reward_weights=[0.25, -1.0])
    model.save_pretrained(tmp_path)
    again = URMForRewardModeling.from_pretrained(tmp_path)
    assert torch.equal(run(again, **pad_rows(ROWS)).logits, run(model, **pad_rows(ROWS)).logits)


@pytest.mark.parametrize(
    "key", ["score.value.weight", "score.gate.4.bias", "score.feature_scale", "model.layers.1.mlp.up_proj.weight"]
)
@pytest.mark.parametrize("auto", [URMForRewardModeling, AutoModelForSequenceClassification])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(saved_urm, auto, key):
    edit_weights(saved_urm, lambda weights: weights.pop(key))
    with pytest.raises(ValueError, match=rf"missing \['{key}'\], unexpected \[\].*incomplete"):
        auto.from_pretrained(saved_urm)


@pytest.mark.parametrize("key", ["score.extra", "model.layers.7.mlp.up_proj.weight"])
def test_a_checkpoint_with_an_unknown_tensor_is_refused(saved_urm, key):
    edit_weights(saved_urm, lambda weights: weights.update({key: torch.zeros(2)}))
    with pytest.raises(ValueError, match=rf"missing \[\], unexpected \['{key}'\]"):
        URMForRewardModeling.from_pretrained(saved_urm)


@pytest.mark.parametrize("kwargs", [{}, {"ignore_mismatched_sizes": True}])
def test_a_tensor_of_another_shape_is_refused(saved_urm, kwargs):
    edit_weights(saved_urm, lambda weights: weights.update({"score.value.weight": torch.zeros(4, 64)}))
    with pytest.raises((ValueError, RuntimeError), match="size|shape|mismatched|do not fit"):
        URMForRewardModeling.from_pretrained(saved_urm, **kwargs)


def test_loading_info_is_given_to_those_who_ask(saved_urm):
    model, info = AutoModel.from_pretrained(saved_urm, output_loading_info=True)
    assert type(model) is URMForRewardModeling
    assert (list(info["missing_keys"]), list(info["unexpected_keys"])) == ([], [])


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attn_implementation_reaches_the_backbone(saved_urm, implementation):
    model = URMForRewardModeling.from_pretrained(saved_urm, attn_implementation=implementation)
    assert model.model.config._attn_implementation == implementation
    assert_close(run(model, **pad_rows(ROWS)).logits, run(tiny_urm(), **pad_rows(ROWS)).logits)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_attn_implementation_reaches_a_fresh_backbone(tmp_path, implementation):
    save_tiny(AutoModelForCausalLM, tmp_path)
    model = URMForRewardModeling.from_backbone(str(tmp_path), attn_implementation=implementation)
    assert model.model.config._attn_implementation == implementation


@pytest.mark.parametrize("device_map", ["cpu", "auto", {"": "cpu"}])
def test_a_device_map_loads_the_same_model(saved_urm, device_map):
    assert_equal_state(URMForRewardModeling.from_pretrained(saved_urm, device_map=device_map), tiny_urm())


def test_a_pad_token_written_on_the_loaded_model_is_saved(saved_urm, tmp_path):
    model = URMForRewardModeling.from_pretrained(saved_urm)
    model.config.get_text_config().pad_token_id = 7
    model.save_pretrained(tmp_path / "again")
    assert URMForRewardModeling.from_pretrained(tmp_path / "again").config.pad_token_id == 7


def test_a_grown_vocabulary_is_saved(saved_urm, tmp_path):
    model = URMForRewardModeling.from_pretrained(saved_urm)
    model.resize_token_embeddings(270)
    model.save_pretrained(tmp_path / "again")
    again = URMForRewardModeling.from_pretrained(tmp_path / "again")
    assert again.config.vocab_size == 270
    assert_equal_state(again, model)
