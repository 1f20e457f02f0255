"""Merging of checkpoints against means of state dicts that are computed here."""

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from tests.helpers.members import VALUE, assert_equal_states, edit_weights, mean_state, read_state, save_member
from tests.helpers.tiny import pad_rows, random_rows, tiny_urm
from urm_hf import merge_checkpoints
from urm_hf.checkpoints import merging
from urm_hf.modeling import URMForRewardModeling

ROWS = random_rows([5, 12, 3, 8])


# The merged weights


@pytest.mark.parametrize("weights", [None, [0.5, 0.5], [0.25, 0.75], [1.0, 0.0]])
def test_the_weights_are_the_weighted_mean(members, tmp_path, weights):
    result = merge_checkpoints(members, tmp_path / "merged", weights=weights)
    assert result.weights == pytest.approx(weights or [0.5, 0.5])
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, weights or [0.5, 0.5]))


def test_weights_that_sum_to_one_but_for_rounding_are_normalised(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged", weights=[0.3333333, 0.6666664])
    assert sum(result.weights) == pytest.approx(1, abs=1e-12)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(members, result.weights))


@pytest.mark.parametrize("weights", [None, [0.2, 0.3, 0.5]])
def test_three_members_and_chunks_smaller_than_a_tensor(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(merging, "CHUNK", 1000)
    folders = [save_member(tmp_path / str(seed), seed) for seed in range(3)]
    merge_checkpoints(folders, tmp_path / "merged", weights=weights)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, weights or [1 / 3] * 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_half_precision_body_keeps_its_dtype_and_the_head_float32(tmp_path, dtype):
    folders = [save_member(tmp_path / str(seed), seed, dtype=dtype) for seed in range(2)]
    merge_checkpoints(folders, tmp_path / "merged")
    state = read_state(tmp_path / "merged")
    dtypes = {part: {x.dtype for key, x in state.items() if key.startswith(part)} for part in ("model.", "score.")}
    assert dtypes == {"model.": {dtype}, "score.": {torch.float32}}
    assert_equal_states(state, mean_state(folders, [0.5, 0.5]))


@pytest.mark.parametrize("written", ["5GB", "60KB"])
def test_members_and_result_may_be_sharded_in_different_places(tmp_path, written):
    sizes = ["5GB", "50KB", "90KB"]
    folders = [save_member(tmp_path / str(i), i, max_shard_size=size) for i, size in enumerate(sizes)]
    shards = [len(list(Path(folder).glob("*.safetensors"))) for folder in folders]
    assert shards[0] == 1 < shards[2] < shards[1]
    merge_checkpoints(folders, tmp_path / "merged", max_shard_size=written)
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, [1 / 3] * 3))
    assert (tmp_path / "merged" / "model.safetensors.index.json").exists() == (written == "60KB")


def test_shards_are_bounded_and_the_index_names_where_each_tensor_is(members, tmp_path):
    merge_checkpoints(members, tmp_path / "merged", max_shard_size="70KB")
    index = json.loads((tmp_path / "merged" / "model.safetensors.index.json").read_text())
    files = sorted((tmp_path / "merged").glob("*.safetensors"))
    found = {}
    for file in files:
        state = load_file(file)
        assert len(state) == 1 or sum(x.nbytes for x in state.values()) <= 70_000, file.name
        found |= dict.fromkeys(state, file.name)
    assert len(files) > 1
    assert index["weight_map"] == found
    assert index["metadata"]["total_size"] == sum(x.nbytes for x in read_state(members[0]).values())


@pytest.mark.parametrize("max_shard_size", ["5GB", "70KB"])
def test_the_merged_folder_scores_as_a_model_with_the_mean_weights(members, tmp_path, max_shard_size):
    merge_checkpoints(members, tmp_path / "merged", max_shard_size=max_shard_size)
    expected = URMForRewardModeling.from_pretrained(members[0])
    expected.load_state_dict(mean_state(members, [0.5, 0.5]))
    merged = AutoModel.from_pretrained(tmp_path / "merged")
    with torch.no_grad():
        ours, theirs = merged(**pad_rows(ROWS)), expected(**pad_rows(ROWS))
    for name in ("logits", "attribute_means", "attribute_stds", "reward_std"):
        torch.testing.assert_close(ours[name], theirs[name], msg=name)


def test_members_without_a_gate_are_merged(tmp_path):
    folders = [save_member(tmp_path / str(seed), seed, reward_weights=[0.5, 0.3, 0.2]) for seed in range(2)]
    result = merge_checkpoints(folders, tmp_path / "merged")
    assert_equal_states(read_state(tmp_path / "merged"), mean_state(folders, [0.5, 0.5]))
    assert "gate" not in result.differences


# Log standard deviations


@pytest.mark.parametrize("loss", ["mle", "beta_nll", "censored_mle", None])
def test_heads_that_model_a_distribution_are_not_averaged_unasked(tmp_path, loss):
    folders = [save_member(tmp_path / str(seed), seed, attribute_loss=loss) for seed in range(2)]
    with pytest.raises(ValueError, match=r'`log_std` must.*geometric mean.*C\.1.*"average".*"first"') as error:
        merge_checkpoints(folders, tmp_path / "merged")
    loss = loss or "a loss that is not known"
    assert f"trained by {loss}, {loss}:" in str(error.value)


def test_average_makes_sigma_a_geometric_mean(tmp_path):
    body = tiny_urm().model.state_dict()
    folders = []
    for seed in range(2):  # the same body, so that both heads read the same hidden state
        folders.append(save_member(tmp_path / str(seed), seed, attribute_loss="mle", log_std_bounds=None))
        edit_weights(folders[-1], lambda state: state.update({f"model.{key}": x.clone() for key, x in body.items()}))
    merge_checkpoints(folders, tmp_path / "merged", weights=[0.3, 0.7], log_std="average")
    models = [AutoModel.from_pretrained(folder) for folder in (*folders, tmp_path / "merged")]
    with torch.no_grad():
        stds = [model(**pad_rows(ROWS)).attribute_stds for model in models]
    torch.testing.assert_close(stds[2], stds[0] ** 0.3 * stds[1] ** 0.7)


@pytest.mark.parametrize("losses", [("mle", "mle"), ("mle", "regression"), ("regression", "regression")])
def test_first_keeps_the_first_member_s_rows_and_averages_the_rest(tmp_path, losses):
    folders = [save_member(tmp_path / str(i), i, attribute_loss=loss) for i, loss in enumerate(losses)]
    result = merge_checkpoints(folders, tmp_path / "merged", log_std="first")
    expected = mean_state(folders, [0.5, 0.5])
    expected[VALUE][3:] = read_state(folders[0])[VALUE][3:]
    assert_equal_states(read_state(tmp_path / "merged"), expected)
    assert result.log_std == "first"


@pytest.mark.parametrize(
    "losses, log_std", [(["mle", "regression"], "average"), (["regression", "deterministic"], None)]
)
def test_log_stds_of_different_losses_are_not_averaged(tmp_path, losses, log_std):
    folders = [save_member(tmp_path / str(i), i, attribute_loss=loss) for i, loss in enumerate(losses)]
    with pytest.raises(ValueError, match=re.escape(f"differ in `attribute_loss`, {losses}") + '.*log_std="first"'):
        merge_checkpoints(folders, tmp_path / "merged", log_std=log_std)


def test_the_first_s_gate_is_kept_on_request(members, tmp_path):
    result = merge_checkpoints(members, tmp_path / "merged", weights=[0.25, 0.75], gate="first")
    expected = mean_state(members, [0.25, 0.75]) | {
        key: tensor for key, tensor in read_state(members[0]).items() if key.startswith("score.gate.")
    }
    assert_equal_states(read_state(tmp_path / "merged"), expected)
    assert URMForRewardModeling.from_pretrained(tmp_path / "merged").config.training["gate"] == result.gate == "first"
    assert result.differences["gate"][0][1] > 0.5  # still that between the members
