"""The model against an independent computation, its invariances, and loading, saving and training it."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from trl import RewardConfig, RewardTrainer

from tests.conftest import (
    EOS,
    FAMILIES,
    PAD,
    pad_rows,
    random_rows,
    save_with_tokenizer,
    tiny_backbone_config,
    tiny_tokenizer,
    tiny_urm,
)
from urm_hf.modeling import URMConfig, URMForRewardModeling, URMOutput

ROWS = random_rows([5, 12, 3, 8])
FIELDS = ["logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std", "pooled_hidden"]
RATING_UNITS = {"label_means": [2.0, 2.5, 3.0, 1.5, 1.0], "label_stds": [1.0, 0.5, 0.75, 1.25, 2.0]}
PRIOR = [0.5, -0.25, 1.0, 0.0, 2.0]
HEADS = {
    "default": {},
    "two attributes": {"attributes": ["clarity", "depth"], "gating_hidden_size": 24},
    "no bounds": {"log_std_bounds": None},
    "narrow bounds": {"log_std_bounds": [-0.5, 0.25]},
    "rating units": RATING_UNITS,
    "prior weights": {"reward_weights": PRIOR},
    "prior weights in rating units": {"reward_weights": PRIOR} | RATING_UNITS,
}


@torch.no_grad()
def run(model: URMForRewardModeling, **inputs) -> URMOutput:
    return model(**inputs)


def rewards_alone(model: URMForRewardModeling, rows: list[list[int]]) -> torch.Tensor:
    """The reward of each row, (B, 1), scored by itself without any padding."""
    return torch.cat([run(model, **pad_rows([row])).logits for row in rows])


def assert_close(actual: torch.Tensor, expected: torch.Tensor):
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=0)


def assert_equal_state(model: torch.nn.Module, other: torch.nn.Module):
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    different = [
        key for key in state if state[key].dtype != expected[key].dtype or not state[key].equal(expected[key])
    ]
    assert different == []


# The forward pass, computed a second time in numpy


def bend_numpy(x: np.ndarray, bounds: list[float] | None) -> np.ndarray:
    if bounds is None:
        return x
    low, high = bounds
    x = np.where(x > high, high + 1 - 1 / (1 + np.abs(x - high)), x)
    return np.where(x < low, low - 1 + 1 / (1 + np.abs(low - x)), x)


def selu_numpy(x: np.ndarray) -> np.ndarray:
    return 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))


def head_numpy(model: URMForRewardModeling, hidden: torch.Tensor) -> dict[str, np.ndarray]:
    """The published equations in float64, from the tensors of the state dict and the config alone."""
    state = {key: value.double().numpy() for key, value in model.score.state_dict().items()}
    config, n = model.config, len(model.config.attributes)
    h = (hidden.double().numpy() - state["feature_mean"]) / state["feature_scale"]
    out = h @ state["value.weight"].T
    means = np.array(config.label_means) + np.array(config.label_stds) * out[:, :n]
    stds = np.array(config.label_stds) * np.exp(bend_numpy(out[:, n:], config.log_std_bounds))
    if config.reward_weights is None:
        x = selu_numpy(h @ state["gate.0.weight"].T + state["gate.0.bias"])
        x = selu_numpy(x @ state["gate.2.weight"].T + state["gate.2.bias"])
        weights = (x @ state["gate.4.weight"].T + state["gate.4.bias"]) / np.array(config.label_stds)
    else:
        weights = np.tile(config.reward_weights, (len(h), 1))
    return {
        "logits": (weights * means).sum(1, keepdims=True),
        "attribute_means": means,
        "attribute_stds": stds,
        "gating_weights": weights,
        "reward_std": np.sqrt(((weights * stds) ** 2).sum(1)),
    }


@torch.no_grad()
def last_hidden_alone(model: URMForRewardModeling, rows: list[list[int]]) -> torch.Tensor:
    return torch.stack([model.model(input_ids=torch.tensor([row])).last_hidden_state[0, -1] for row in rows])


@torch.no_grad()
def standardise_features(model: URMForRewardModeling) -> URMForRewardModeling:
    model.score.feature_mean.normal_(std=0.3)
    model.score.feature_scale.uniform_(0.5, 2.0)
    return model


@pytest.mark.parametrize("head", HEADS)
def test_every_output_equals_an_independent_computation(head):
    model = standardise_features(tiny_urm(**HEADS[head]))
    output = run(model, **pad_rows(ROWS))
    for name, expected in head_numpy(model, last_hidden_alone(model, ROWS)).items():
        np.testing.assert_allclose(output[name].numpy(), expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_outputs_have_the_documented_shapes():
    output = run(tiny_urm(attributes=["a", "b", "c"]), **pad_rows(ROWS))
    assert isinstance(output, URMOutput)
    assert {name: tuple(output[name].shape) for name in FIELDS} == {
        "logits": (4, 1),
        "attribute_means": (4, 3),
        "attribute_stds": (4, 3),
        "gating_weights": (4, 3),
        "reward_std": (4,),
        "pooled_hidden": (4, 64),
    }


def test_prior_weights_replace_the_gate_and_its_parameters():
    model = tiny_urm(reward_weights=PRIOR)
    output = run(model, **pad_rows(ROWS))
    assert [key for key in model.score.state_dict() if "gate" in key] == []
    assert output.gating_weights.tolist() == [PRIOR] * 4
    torch.testing.assert_close(output.logits[:, 0], output.attribute_means @ torch.tensor(PRIOR))


def test_label_statistics_act_as_an_affine_map_of_the_ratings():
    shift, scale = (torch.tensor(values) for values in RATING_UNITS.values())
    plain, mapped = (run(tiny_urm(**kwargs), **pad_rows(ROWS)) for kwargs in ({}, RATING_UNITS))
    torch.testing.assert_close(mapped.attribute_means, shift + scale * plain.attribute_means)
    torch.testing.assert_close(mapped.attribute_stds, scale * plain.attribute_stds)


def test_the_gate_weighs_in_units_of_the_ratings_spread():
    plain, mapped = (run(tiny_urm(**kwargs), **pad_rows(ROWS)) for kwargs in ({}, RATING_UNITS))
    moved = plain.gating_weights @ (
        torch.tensor(RATING_UNITS["label_means"]) / torch.tensor(RATING_UNITS["label_stds"])
    )
    torch.testing.assert_close(mapped.logits[:, 0], plain.logits[:, 0] + moved)
    torch.testing.assert_close(mapped.reward_std, plain.reward_std)


def test_prior_weights_apply_to_the_ratings_themselves():
    output = run(tiny_urm(reward_weights=PRIOR, **RATING_UNITS), **pad_rows(ROWS))
    torch.testing.assert_close(output.logits[:, 0], output.attribute_means @ torch.tensor(PRIOR))


def standardised(model: URMForRewardModeling, hidden: torch.Tensor) -> torch.Tensor:
    model.score.standardize_features(hidden)
    return (hidden - model.score.feature_mean) / model.score.feature_scale


def test_standardized_features_have_unit_variance_and_a_common_offset():
    features = standardised(tiny_urm(), 3.0 + 2.0 * torch.randn(50, 64))
    torch.testing.assert_close(features.std(0, correction=0), torch.ones(64))
    torch.testing.assert_close(features.mean(0), torch.full((64,), 0.5), atol=1e-5, rtol=0)


def test_a_constant_feature_is_not_blown_up():
    hidden = torch.randn(50, 64)
    hidden[:, 5] = 7.0
    assert standardised(tiny_urm(), hidden)[:, 5].abs().max() < 1  # and not NaN


def test_score_of_pooled_hidden_states_is_the_reward():
    model = tiny_urm()
    output = run(model, **pad_rows(ROWS))
    with torch.no_grad():
        torch.testing.assert_close(model.score(output.pooled_hidden), output.logits)


def test_score_of_all_hidden_states_is_the_score_of_each():
    model, hidden = tiny_urm(), torch.randn(2, 3, 64)
    with torch.no_grad():
        rewards = model.score(hidden)
        each = [[model.score(hidden[row, token]) for token in range(3)] for row in range(2)]
    assert rewards.shape == (2, 3, 1)
    torch.testing.assert_close(rewards, torch.stack([torch.stack(row) for row in each]))


def test_pooled_hidden_states_give_what_the_full_pass_gave():
    model = tiny_urm()
    full = run(model, **pad_rows(ROWS))
    again = run(model, pooled_hidden=full.pooled_hidden)
    for name in FIELDS:
        assert torch.equal(again[name], full[name]), name


def test_inputs_embeds_stand_in_for_input_ids():
    model, batch = tiny_urm(), pad_rows(ROWS)
    embeds = model.get_input_embeddings()(batch["input_ids"]).detach()
    output = run(model, inputs_embeds=embeds, attention_mask=batch["attention_mask"])
    assert_close(output.logits, run(model, **batch).logits)


def test_what_generic_callers_add_changes_nothing():
    model, batch = tiny_urm(), pad_rows(ROWS)
    added = {"use_cache": False, "margin": torch.ones(4), "labels": torch.zeros(4), "return_dict": True}
    assert torch.equal(run(model, **batch, **added).logits, run(model, **batch).logits)


def test_return_dict_false_gives_a_tuple_in_the_order_of_the_fields():
    model, batch = tiny_urm(), pad_rows(ROWS)
    output, values = run(model, **batch), run(model, **batch, return_dict=False)
    assert type(values) is tuple
    assert all(torch.equal(value, output[name]) for name, value in zip(FIELDS, values))
    assert len(values) == len(FIELDS)


# Invariance: rewards of a batch against rewards of its rows alone


@pytest.fixture(scope="module", params=FAMILIES)
def family_model(request) -> URMForRewardModeling:
    return tiny_urm(request.param)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [0, 9])
def test_a_reward_depends_neither_on_company_nor_on_padding(family_model, side, extra):
    batch = pad_rows(ROWS, side, extra)
    assert_close(run(family_model, **batch).logits, rewards_alone(family_model, ROWS))


def test_rewards_follow_the_order_of_the_batch(family_model):
    forward, backward = pad_rows(ROWS), pad_rows(ROWS[::-1])
    assert_close(run(family_model, **backward).logits.flip(0), run(family_model, **forward).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_reward_does_not_depend_on_the_ids_under_the_padding(family_model, side):
    batch = pad_rows(ROWS, side)
    garbage = batch["input_ids"].where(batch["attention_mask"].bool(), 17)
    masked = {"input_ids": garbage, "attention_mask": batch["attention_mask"]}
    assert_close(run(family_model, **masked).logits, rewards_alone(family_model, ROWS))


def test_a_masked_first_token_is_as_good_as_absent(family_model):
    batch = pad_rows(ROWS)  # RewardBench masks the first of two BOS in this way
    batch["attention_mask"][:, 0] = 0
    assert_close(run(family_model, **batch).logits, rewards_alone(family_model, [row[1:] for row in ROWS]))


def test_a_masked_token_inside_a_conversation_is_not_read(family_model):
    batch = pad_rows(ROWS)
    batch["attention_mask"][:, 1] = 0
    before = run(family_model, **batch).logits
    batch["input_ids"][:, 1] = 17
    assert_close(run(family_model, **batch).logits, before)


def test_a_reward_depends_on_every_token_of_its_conversation(family_model):
    for position in range(len(ROWS[0])):
        changed = list(ROWS[0])
        changed[position] = (changed[position] + 1) % 256
        rewards = rewards_alone(family_model, [ROWS[0], changed])
        assert (rewards[0] - rewards[1]).abs().item() > 1e-3, position


def test_each_family_trains_all_of_its_head_and_backbone(family_model):
    rewards = family_model(**pad_rows(ROWS)).logits
    output = family_model(**pad_rows(ROWS))
    (rewards.square().mean() + output.attribute_stds.mean()).backward()
    grads = {name: parameter.grad for name, parameter in family_model.named_parameters()}
    family_model.zero_grad()
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []
    assert [name for name, grad in grads.items() if not grad.any()] == []


# A missing mask


def test_without_a_mask_padding_is_found_when_pad_is_not_eos():
    model, batch = tiny_urm(), pad_rows([row + [EOS] for row in ROWS])
    assert_close(run(model, input_ids=batch["input_ids"]).logits, run(model, **batch).logits)


@pytest.mark.parametrize("eos", [PAD, [EOS, PAD]])
def test_without_a_mask_pad_equal_to_eos_is_refused(eos):
    model = tiny_urm(backbone=tiny_backbone_config(eos_token_id=eos))
    with pytest.raises(ValueError, match=rf"`pad_token_id` equals `eos_token_id` \({PAD}\).*Pass the tokenizer's"):
        model(input_ids=pad_rows(ROWS)["input_ids"])


def test_with_a_mask_pad_may_equal_eos():
    model = tiny_urm(backbone=tiny_backbone_config(eos_token_id=PAD))
    ended = [row + [PAD] for row in ROWS]
    assert_close(run(model, **pad_rows(ended)).logits, rewards_alone(model, ended))


def test_without_mask_and_pad_token_a_batch_is_refused():
    model = tiny_urm(backbone=tiny_backbone_config(pad_token_id=None))
    with pytest.raises(ValueError, match="`attention_mask` is missing and the model has no `pad_token_id`"):
        model(input_ids=pad_rows(ROWS)["input_ids"])


def test_without_mask_and_pad_token_one_conversation_is_scored():
    model = tiny_urm(backbone=tiny_backbone_config(pad_token_id=None))
    assert_close(run(model, input_ids=torch.tensor([ROWS[0]])).logits, rewards_alone(model, ROWS[:1]))


def test_without_a_mask_inputs_embeds_are_refused():
    with pytest.raises(ValueError, match="`attention_mask` is missing: with `inputs_embeds`"):
        tiny_urm()(inputs_embeds=torch.zeros(2, 3, 64))


def test_a_row_without_any_token_is_named():
    batch = pad_rows(ROWS)
    batch["attention_mask"][2] = 0
    with pytest.raises(ValueError, match="`attention_mask` has no 1 in row 2: an empty conversation has no reward"):
        tiny_urm()(**batch)


@pytest.mark.parametrize("inputs", [{}, {"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 64)}])
def test_exactly_one_kind_of_input_is_needed(inputs):
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        tiny_urm()(**inputs, attention_mask=torch.ones(1, 2))


# Float32 heads


def assert_float32_head(model: URMForRewardModeling, output: URMOutput):
    """Outputs are float32, and as exact as float32 arithmetic on the hidden states makes them."""
    assert {name: output[name].dtype for name in FIELDS[:-1]} == dict.fromkeys(FIELDS[:-1], torch.float32)
    for name, expected in head_numpy(model, output.pooled_hidden).items():
        np.testing.assert_allclose(output[name].numpy(), expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("auto", [URMForRewardModeling, AutoModel, AutoModelForSequenceClassification])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_head_stays_float32_when_loaded_in_half_precision(saved_urm, auto, dtype):
    model = auto.from_pretrained(saved_urm, dtype=dtype)
    assert {parameter.dtype for parameter in model.model.parameters()} == {dtype}
    assert {tensor.dtype for tensor in model.score.state_dict().values()} == {torch.float32}
    assert_float32_head(model, run(model, **pad_rows(ROWS)))


def test_the_head_computes_in_float32_under_autocast():
    model = tiny_urm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run(model, **pad_rows(ROWS))
    assert_float32_head(model, output)


def test_the_head_computes_in_float32_after_the_model_was_cast():
    model = standardise_features(tiny_urm()).to(torch.bfloat16)
    assert_float32_head(model, run(model, **pad_rows(ROWS)))


def test_the_head_s_gradient_is_float32_under_autocast():
    model = tiny_urm()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(**pad_rows(ROWS)).logits.sum().backward()
    assert {parameter.grad.dtype for parameter in model.score.parameters()} == {torch.float32}


# Fresh heads


def assert_fresh_predictions(output: URMOutput):
    n = output.gating_weights.shape[1]
    assert (output.gating_weights - 1 / n).abs().max() < 0.4  # 4 std of the last layer's 0.1
    assert (output.gating_weights - 1 / n).abs().mean() < 0.15
    assert output.attribute_means.abs().max() < 0.4
    assert output.attribute_stds.log().abs().max() < 0.4
    assert output.attribute_means.std() > 0.01  # small, not dead


@pytest.mark.parametrize("attributes", [["a", "b"], None])
def test_a_fresh_head_weighs_all_alike_and_predicts_the_mean_rating(attributes):
    torch.manual_seed(0)
    model = URMForRewardModeling(URMConfig(backbone_config=tiny_backbone_config(), attributes=attributes)).eval()
    assert_fresh_predictions(run(model, **pad_rows(ROWS)))


def test_fresh_heads_depend_on_the_seed():
    config = URMConfig(backbone_config=tiny_backbone_config())
    first, second = (torch.manual_seed(seed) and URMForRewardModeling(config) for seed in (1, 2))
    assert not torch.equal(first.score.value.weight, second.score.value.weight)
    assert not torch.equal(first.score.gate[0].weight, second.score.gate[0].weight)


# From a pretrained backbone


def save_tiny(auto: type, folder: Path, **kwargs) -> torch.nn.Module:
    torch.manual_seed(3)
    model = auto.from_config(tiny_backbone_config(kwargs.pop("family", "llama"), **kwargs))
    model.save_pretrained(folder)
    return model


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
    assert_equal_state(URMForRewardModeling.from_pretrained(tmp_path / "urm"), model)


# Saving and loading


def edit_weights(folder, edit):
    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})


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


# Training


def gradients(model: URMForRewardModeling) -> dict[str, torch.Tensor]:
    model.train()
    model(**pad_rows(ROWS)).logits.square().mean().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated:FutureWarning")  # new in 5, not in 4
def test_gradient_checkpointing_runs_the_layers_twice_and_gives_the_same_gradients():
    plain, checkpointed = tiny_urm(), tiny_urm()
    checkpointed.gradient_checkpointing_enable()
    calls = []
    checkpointed.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(gradients(checkpointed), gradients(plain), atol=1e-6, rtol=1e-5)
    assert len(calls) == 2


def preference_pairs() -> list[dict]:
    def turn(answer):
        return [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": answer}]

    return [{"chosen": turn("yes" * (i + 1)), "rejected": turn("no" * (4 - i))} for i in range(4)]


def train_one_step(model, output_dir) -> float:
    """One step of TRL's own RewardTrainer, which knows nothing of URMs; returns its loss."""
    config = RewardConfig(
        output_dir=str(output_dir),
        max_steps=1,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    dataset = Dataset.from_list(preference_pairs())
    trainer = RewardTrainer(model=model, args=config, train_dataset=dataset, processing_class=tiny_tokenizer())
    loss = trainer.train().training_loss
    trainer.save_model(str(output_dir))
    return loss


def bradley_terry_loss(model: URMForRewardModeling) -> float:
    tokenizer = tiny_tokenizer()
    margins = []
    for pair in preference_pairs():
        chosen, rejected = (tokenizer.apply_chat_template(pair[side])["input_ids"] for side in ("chosen", "rejected"))
        rewards = rewards_alone(model, [chosen, rejected]).squeeze(-1).tolist()
        margins.append(rewards[0] - rewards[1])
    return sum(math.log1p(math.exp(-margin)) for margin in margins) / len(margins)


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing:FutureWarning")  # RewardConfig's own default
def test_trl_s_reward_trainer_trains_a_loaded_urm(saved_urm, tmp_path):
    model = URMForRewardModeling.from_pretrained(saved_urm)
    assert train_one_step(model, tmp_path / "run") == pytest.approx(bradley_terry_loss(tiny_urm()), abs=1e-4)
    trained = URMForRewardModeling.from_pretrained(tmp_path / "run")
    for name, before in tiny_urm().named_parameters():
        assert name.endswith("embed_tokens.weight") or not torch.equal(trained.get_parameter(name), before), name


def test_trl_s_get_reward_reads_score_at_every_token(saved_urm, monkeypatch):
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.utils import get_reward

    model, ended = URMForRewardModeling.from_pretrained(saved_urm), ROWS[1]
    ids = torch.tensor([ended + [PAD] * 2])
    with torch.no_grad():
        _, reward, _ = get_reward(model, ids, PAD, context_length=4)
    assert_close(reward, rewards_alone(model, [ended])[:, 0])


def test_the_saved_folder_scores_a_chat_with_its_own_tokenizer(tmp_path):
    model = tiny_urm()
    folder = save_with_tokenizer(model, tmp_path / "urm")
    batch = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        [pair["chosen"] for pair in preference_pairs()], return_tensors="pt", return_dict=True, padding=True
    )
    rows = [ids[mask.bool()].tolist() for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]
    assert_close(run(model, **batch).logits, rewards_alone(model, rows))
