"""Models of ours in the layout that SGLang reads, and back."""

import pytest
import torch
from transformers import LlamaConfig

from tests.helpers.published import (
    ARCHITECTURE,
    assert_same_tensors,
    edit_config,
    our_rewards,
    read_config,
    read_state,
    their_rewards,
    write_published,
)
from tests.helpers.tiny import tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import assert_close
from urm_hf.checkpoints.published import convert_published, convert_sglang

# Back, for SGLang


DTYPES = [
    (torch.float16, torch.float16),
    (torch.bfloat16, torch.bfloat16),
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float16),
]


@pytest.mark.parametrize("dtype, gate_dtype", DTYPES)
@pytest.mark.parametrize("size", ["5GB", "40KB"])
def test_a_round_trip_changes_no_bit(tmp_path, dtype, gate_dtype, size):
    source = write_published(tmp_path / "in", dtype, n=3, gate_dtype=gate_dtype)
    convert_published(source, tmp_path / "ours", attributes=["a", "b", "c"], max_shard_size=size)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists() == (size != "5GB")
    result = convert_sglang(tmp_path / "ours", tmp_path / "back", max_shard_size=size)
    assert result.notes == []
    assert_same_tensors(tmp_path / "back", source)
    before, after = read_config(source), read_config(tmp_path / "back")
    renamed = ("auto_map", "id2label", "label2id")
    assert {key: after.get(key) for key in before if key not in renamed} == {
        key: before[key] for key in before if key not in renamed
    }
    assert LlamaConfig.from_pretrained(tmp_path / "back").num_labels == 6


def test_a_urm_of_ours_survives_the_way_there_and_back(tmp_path):
    model = tiny_urm(attributes=["a", "b"], log_std_bounds=None)
    model.save_pretrained(tmp_path / "ours")
    convert_sglang(tmp_path / "ours", tmp_path / "there")
    assert_close(their_rewards(tmp_path / "there"), our_rewards(tmp_path / "ours"))
    result = convert_published(tmp_path / "there", tmp_path / "back")
    assert result.attributes == ["a", "b"]  # from id2label
    assert_same_tensors(tmp_path / "back", tmp_path / "ours")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_trained_head_is_not_rounded(tmp_path, dtype):
    model = tiny_urm(attributes=["a", "b"])
    model.model.to(dtype)
    model.config.dtype = dtype
    model.save_pretrained(tmp_path / "ours")
    result = convert_sglang(tmp_path / "ours", tmp_path / "there")
    state = read_state(tmp_path / "there")
    assert {tensor.dtype for key, tensor in state.items() if key.startswith("model.")} == {dtype}
    assert torch.equal(state["score.weight"][0::2], model.score.value.weight[:2])
    assert torch.equal(state["weights.fc.2.weight"], model.score.gate[2].weight)
    assert result.notes == ["log stds outside [-4.0, 4.0] no longer bend; the reward does not use them"]


def test_a_backbone_without_rope_scaling_keeps_its_base_for_every_reader(tmp_path):
    backbone = tiny_backbone_config(rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    tiny_urm(backbone=backbone).save_pretrained(tmp_path / "ours")
    convert_sglang(tmp_path / "ours", tmp_path / "there")
    assert read_config(tmp_path / "there")["rope_theta"] == 5000.0
    assert read_config(tmp_path / "there")["rope_scaling"] is None
    assert_close(their_rewards(tmp_path / "there"), our_rewards(tmp_path / "ours"))


def save_with_scales(folder, label_std: float = 1.0, feature_scale: float = 1.0, **kwargs) -> str:
    model = tiny_urm(attributes=["a", "b"], **kwargs)
    model.score.set_label_statistics([0.0, 0.0], [label_std, 2 * label_std])
    model.score.feature_scale.mul_(feature_scale * (1 + torch.arange(64) / 64))
    model.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("label_std", [1.0, 3.0])
@pytest.mark.parametrize(
    "kwargs", [{}, {"gating_hidden_size": 48}, {"reward_weights": [0.3, -0.7]}], ids=["gate", "narrow", "fixed"]
)
def test_scales_and_padded_gates_give_the_same_rewards(tmp_path, kwargs, label_std):
    ours = save_with_scales(tmp_path / "ours", label_std, 1.5, **kwargs)
    result = convert_sglang(ours, tmp_path / "there", pad_gate=True)
    assert_close(their_rewards(tmp_path / "there"), our_rewards(ours))
    assert any("feature_scale" in note for note in result.notes)
    assert any("label_std" in note for note in result.notes)


def test_the_config_s_other_fields_are_those_of_the_backbone(tmp_path):
    tiny_urm(attributes=["a", "b"]).save_pretrained(tmp_path / "ours")
    convert_sglang(tmp_path / "ours", tmp_path / "there")
    config = read_config(tmp_path / "there")
    assert config["architectures"] == [ARCHITECTURE] and config["model_type"] == "llama"
    assert config["id2label"] == {"0": "a mean", "1": "a log std", "2": "b mean", "3": "b log std"}
    assert config["torch_dtype"] == "float32" and "auto_map" not in config
    ours, theirs = tiny_backbone_config(), LlamaConfig.from_pretrained(tmp_path / "there")
    fields = (
        "hidden_size",
        "vocab_size",
        "rope_parameters",
        "head_dim",
        "pad_token_id",
        "eos_token_id",
        "rms_norm_eps",
    )
    assert {field: getattr(theirs, field) for field in fields} == {field: getattr(ours, field) for field in fields}


# What SGLang cannot express


REFUSED = [
    ({"family": "qwen2"}, "backbone is of type 'qwen2'"),
    ({"gating_hidden_size": 48}, "gate is 48 wide, and SGLang's as wide as the hidden size, 64; `pad_gate=True`"),
    ({"gating_hidden_size": 80}, r"gate is 80 wide, and SGLang's as wide as the hidden size, 64\."),
    ({"reward_weights": [0.5] * 5}, "fixed `reward_weights`"),
    ({"label_means": [1.0] * 5}, "score.label_mean is not 0, .* standardize_labels=False"),
    ({"backbone": tiny_backbone_config(mlp_bias=True)}, "no `mlp_bias`"),
    ({"backbone": tiny_backbone_config(hidden_act="gelu")}, "SiLU"),
]


@pytest.mark.parametrize("kwargs, message", REFUSED)
def test_sglang_is_refused_with_the_reason(tmp_path, kwargs, message):
    tiny_urm(**kwargs).save_pretrained(tmp_path / "ours")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=f"SGLang cannot serve .*{message}"):
        convert_sglang(tmp_path / "ours", tmp_path / "there")
    assert sorted(tmp_path.iterdir()) == before


def test_a_gate_wider_than_the_hidden_size_cannot_be_padded(tmp_path):
    tiny_urm(gating_hidden_size=80).save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="gate is 80 wide"):
        convert_sglang(tmp_path / "ours", tmp_path / "there", pad_gate=True)


def test_all_reasons_are_named_at_once(tmp_path):
    model = tiny_urm("qwen2", gating_hidden_size=80)
    model.score.standardize_features(torch.randn(50, 64))
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="'qwen2'.* 80 wide.*score.feature_mean is not 0.*standardize_features=False"):
        convert_sglang(tmp_path / "ours", tmp_path / "there")


def test_a_gate_beyond_float16_is_refused(tmp_path):
    model = tiny_urm()
    with torch.no_grad():
        model.score.gate[2].weight[0, 0] = 1e5
    model.save_pretrained(tmp_path / "ours")
    with pytest.raises(ValueError, match="weights up to 1e.05, and SGLang's is float16"):
        convert_sglang(tmp_path / "ours", tmp_path / "there")


def test_what_is_no_urm_of_ours_is_refused(published, tmp_path):
    with pytest.raises(ValueError, match="urm convert published"):
        convert_sglang(published, tmp_path / "there")
    edit_config(published, architectures=["LlamaForCausalLM"])
    with pytest.raises(ValueError, match="is not a URM: its `model_type` is 'llama'"):
        convert_sglang(published, tmp_path / "there")
