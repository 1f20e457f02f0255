"""Fresh heads on a pretrained backbone."""

import re

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.tiny import FAMILIES, pad_rows, tiny_backbone_config, tiny_urm
from tests.helpers.urm_numbers import ROWS, assert_equal_state, assert_fresh_predictions, edit_weights, run, save_tiny
from urm_hf.modeling import URMForRewardModeling


@pytest.mark.parametrize("family", FAMILIES)
def test_from_backbone_keeps_the_decoder_of_a_causal_lm(family, tmp_path):
    causal = save_tiny(AutoModelForCausalLM, tmp_path, family=family)
    model = URMForRewardModeling.from_backbone(str(tmp_path), attributes=["a", "b"])
    assert model.config.attributes == ["a", "b"]
    assert_equal_state(model.model, causal.base_model)


def test_from_backbone_shares_a_decoder_that_is_loaded_already():
    decoder = AutoModel.from_config(tiny_backbone_config())
    assert URMForRewardModeling.from_backbone(decoder, attributes=["a"]).model is decoder


def test_from_backbone_refuses_loading_arguments_for_a_loaded_decoder():
    with pytest.raises(ValueError, match=r"\['dtype'\] are for loading a backbone by name"):
        URMForRewardModeling.from_backbone(AutoModel.from_config(tiny_backbone_config()), dtype=torch.bfloat16)


def test_from_backbone_refuses_a_loaded_urm():
    with pytest.raises(ValueError, match="is a URM already"):
        URMForRewardModeling.from_backbone(tiny_urm())


def test_from_backbone_refuses_a_loaded_causal_lm_as_it_is_no_decoder():
    with pytest.raises(ValueError, match="LlamaForCausalLM"):
        URMForRewardModeling.from_backbone(AutoModelForCausalLM.from_config(tiny_backbone_config()))


def test_from_backbone_gives_fresh_heads_in_eval_mode(tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path)
    model = URMForRewardModeling.from_backbone(str(tmp_path))
    assert not model.training
    assert_fresh_predictions(run(model, **pad_rows(ROWS)))


def test_from_backbone_passes_the_head_s_arguments_on(tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path)
    arguments = {
        "attributes": ["a", "b"],
        "gating_hidden_size": 24,
        "attribute_scales": {"a": [0.0, 4.0]},
        "log_std_bounds": [-1.0, 1.0],
    }
    config = URMForRewardModeling.from_backbone(str(tmp_path), **arguments).config
    assert {name: getattr(config, name) for name in arguments} == arguments


def test_from_backbone_takes_prior_weights(tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path)
    model = URMForRewardModeling.from_backbone(str(tmp_path), attributes=["a", "b"], reward_weights=[0.25, 0.75])
    assert run(model, **pad_rows(ROWS)).gating_weights.tolist() == [[0.25, 0.75]] * 4


def test_from_backbone_logs_the_lm_head_it_discards(tmp_path, caplog):
    save_tiny(AutoModelForCausalLM, tmp_path)
    URMForRewardModeling.from_backbone(str(tmp_path))
    assert re.search(r"Discarded weights of .* not in its decoder: \['lm_head.weight'\]", caplog.text)


def test_from_backbone_logs_the_score_of_a_reward_model_it_discards(tmp_path, caplog):
    reward_model = save_tiny(AutoModelForSequenceClassification, tmp_path, num_labels=1)
    model = URMForRewardModeling.from_backbone(str(tmp_path))
    assert_equal_state(model.model, reward_model.model)
    assert re.search(r"Discarded weights of .* not in its decoder: \['score.weight'\]", caplog.text)
    assert model.config.num_labels == 1


def test_from_backbone_refuses_a_urm(saved_urm):
    with pytest.raises(ValueError, match="is a URM already: load it with `from_pretrained`"):
        URMForRewardModeling.from_backbone(saved_urm)


def test_from_backbone_refuses_a_decoder_with_missing_weights(tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path)
    edit_weights(tmp_path, lambda weights: weights.pop("model.layers.1.mlp.up_proj.weight"))
    with pytest.raises(ValueError, match="lacks weights of its decoder: layers.1.mlp.up_proj.weight"):
        URMForRewardModeling.from_backbone(str(tmp_path))


def test_from_backbone_honours_dtype_for_the_backbone_only(tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path)
    model = URMForRewardModeling.from_backbone(str(tmp_path), dtype=torch.bfloat16)
    assert model.config.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.model.parameters()} == {torch.bfloat16}
    assert {tensor.dtype for tensor in model.score.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_from_a_backbone_saves_and_loads_every_tensor(family, dtype, tmp_path):
    save_tiny(AutoModelForCausalLM, tmp_path / "lm", family=family)
    model = URMForRewardModeling.from_backbone(str(tmp_path / "lm"), dtype=dtype)
    model.save_pretrained(tmp_path / "urm")
    assert_equal_state(URMForRewardModeling.from_pretrained(tmp_path / "urm", dtype="auto"), model)
