"""The model against an independent computation; float32 heads; fresh heads."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from tests.helpers.tiny import pad_rows, tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.urm_numbers import ROWS, assert_fresh_predictions, run, standardise_features
from urm_hf.modeling import URMConfig, URMForRewardModeling, URMOutput

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


@pytest.mark.parametrize("head", HEADS)
def test_every_output_equals_an_independent_computation(head):
    model = standardise_features(tiny_urm(**HEADS[head]))
    output = run(model, **pad_rows(ROWS))
    for name, expected in head_numpy(model, last_hidden_alone(model, ROWS)).items():
        assert_close(output[name].numpy(), expected, msg=name)


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
    assert_close(output.logits[:, 0], output.attribute_means @ torch.tensor(PRIOR))


def test_label_statistics_act_as_an_affine_map_of_the_ratings():
    shift, scale = (torch.tensor(values) for values in RATING_UNITS.values())
    plain, mapped = (run(tiny_urm(**kwargs), **pad_rows(ROWS)) for kwargs in ({}, RATING_UNITS))
    assert_close(mapped.attribute_means, shift + scale * plain.attribute_means)
    assert_close(mapped.attribute_stds, scale * plain.attribute_stds)


def test_the_gate_weighs_in_units_of_the_ratings_spread():
    plain, mapped = (run(tiny_urm(**kwargs), **pad_rows(ROWS)) for kwargs in ({}, RATING_UNITS))
    moved = plain.gating_weights @ (
        torch.tensor(RATING_UNITS["label_means"]) / torch.tensor(RATING_UNITS["label_stds"])
    )
    assert_close(mapped.logits[:, 0], plain.logits[:, 0] + moved)
    assert_close(mapped.reward_std, plain.reward_std)


def test_prior_weights_apply_to_the_ratings_themselves():
    output = run(tiny_urm(reward_weights=PRIOR, **RATING_UNITS), **pad_rows(ROWS))
    assert_close(output.logits[:, 0], output.attribute_means @ torch.tensor(PRIOR))


def standardised(model: URMForRewardModeling, hidden: torch.Tensor) -> torch.Tensor:
    model.score.standardize_features(hidden)
    return (hidden - model.score.feature_mean) / model.score.feature_scale


def test_standardized_features_have_unit_variance_and_a_common_offset():
    features = standardised(tiny_urm(), 3.0 + 2.0 * torch.randn(50, 64))
    assert_close(features.std(0, correction=0), torch.ones(64))
    assert_close(features.mean(0), torch.full((64,), 0.5))


def test_a_constant_feature_is_not_blown_up():
    hidden = torch.randn(50, 64)
    hidden[:, 5] = 7.0
    assert standardised(tiny_urm(), hidden)[:, 5].abs().max() < 1  # and not NaN


def test_score_of_pooled_hidden_states_is_the_reward():
    model = tiny_urm()
    output = run(model, **pad_rows(ROWS))
    with torch.no_grad():
        assert_close(model.score(output.pooled_hidden), output.logits)


def test_score_of_all_hidden_states_is_the_score_of_each():
    model, hidden = tiny_urm(), torch.randn(2, 3, 64)
    with torch.no_grad():
        rewards = model.score(hidden)
        each = [[model.score(hidden[row, token]) for token in range(3)] for row in range(2)]
    assert rewards.shape == (2, 3, 1)
    assert_close(rewards, torch.stack([torch.stack(row) for row in each]))


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


# Float32 heads


def assert_float32_head(model: URMForRewardModeling, output: URMOutput):
    """Outputs are float32, and as exact as float32 arithmetic on the hidden states makes them."""
    assert {name: output[name].dtype for name in FIELDS[:-1]} == dict.fromkeys(FIELDS[:-1], torch.float32)
    for name, expected in head_numpy(model, output.pooled_hidden).items():
        assert_close(output[name].numpy(), expected, msg=name)


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
