"""A URM's numbers, run and compared."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.helpers.tiny import pad_rows, random_rows, tiny_backbone_config
from urm_hf.modeling import URMForRewardModeling, URMOutput

ROWS = random_rows([5, 12, 3, 8])


@torch.no_grad()
def run(model: URMForRewardModeling, **inputs) -> URMOutput:
    return model(**inputs)


def rewards_alone(model: URMForRewardModeling, rows: list[list[int]]) -> torch.Tensor:
    """The reward of each row, (B, 1), scored by itself without any padding."""
    return torch.cat([run(model, **pad_rows([row])).logits for row in rows])


def assert_equal_state(model: torch.nn.Module, other: torch.nn.Module):
    state, expected = model.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    different = [
        key for key in state if state[key].dtype != expected[key].dtype or not state[key].equal(expected[key])
    ]
    assert different == []


@torch.no_grad()
def standardise_features(model: URMForRewardModeling) -> URMForRewardModeling:
    model.score.feature_mean.normal_(std=0.3)
    model.score.feature_scale.uniform_(0.5, 2.0)
    return model


def assert_fresh_predictions(output: URMOutput):
    n = output.gating_weights.shape[1]
    assert (output.gating_weights - 1 / n).abs().max() < 0.4  # 4 std of the last layer's 0.1
    assert (output.gating_weights - 1 / n).abs().mean() < 0.15
    assert output.attribute_means.abs().max() < 0.4
    assert output.attribute_stds.log().abs().max() < 0.4
    assert output.attribute_means.std() > 0.01  # small, not dead


def save_tiny(auto: type, folder: Path, **kwargs) -> torch.nn.Module:
    torch.manual_seed(3)
    model = auto.from_config(tiny_backbone_config(kwargs.pop("family", "llama"), **kwargs))
    model.save_pretrained(folder)
    return model


def edit_weights(folder, edit):
    path = Path(folder) / "model.safetensors"
    weights = load_file(path)
    edit(weights)
    save_file(weights, path, metadata={"format": "pt"})
