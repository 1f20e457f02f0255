"""The published layout against an evaluation of it written here from its description; round trips; refusals."""

import json
import shutil
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoModelForSequenceClassification, LlamaConfig, LlamaModel

from tests.conftest import PAD, OpenedFile, random_rows, tiny_backbone_config, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling, checkpoint_files
from urm_hf.cli import main
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig
from urm_hf.published import convert_published, convert_sglang
from urm_hf.trainers.loading import load_urm

ARCHITECTURE = "LlamaForSequenceClassificationWithNormal_Weights"
ROWS = random_rows([5, 12, 3, 8])
LLAMA3_ROPE = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
    "rope_type": "llama3",
}


def write_published(folder: Path, dtype=torch.float16, n: int = 5, gate_dtype=None, shards: int = 1, **config) -> str:
    """A checkpoint of the published layout with random weights, as transformers 4 wrote them; no code of ours."""
    torch.manual_seed(0)
    shape = {"vocab_size": 260, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512}
    shape |= {"initializer_range": 0.1, "rope_theta": 500000.0, "rope_scaling": dict(LLAMA3_ROPE), "pad_token_id": PAD}
    labels = {f"LABEL_{i}": i for i in range(2 * n)}
    flat = shape | {
        "architectures": [ARCHITECTURE],
        "auto_map": {"AutoModelForSequenceClassification": f"modeling_custom.{ARCHITECTURE}"},
        "model_type": "llama",
        "torch_dtype": str(dtype).removeprefix("torch."),
        "label2id": labels,
        "id2label": {str(i): label for label, i in labels.items()},
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({key: value for key, value in (flat | config).items() if value}))
    backbone = LlamaModel(LlamaConfig(**shape))
    state = {f"model.{key}": tensor.to(dtype) for key, tensor in backbone.state_dict().items()}
    state["score.weight"] = (0.2 * torch.randn(2 * n, 64)).to(dtype)
    for layer, rows in ((0, 64), (2, 64), (4, n)):
        state[f"weights.fc.{layer}.weight"] = (torch.randn(rows, 64) / 8).to(gate_dtype or dtype)
        state[f"weights.fc.{layer}.bias"] = (0.3 * torch.randn(rows)).to(gate_dtype or dtype)
    write_state(folder, state, shards)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def write_state(folder, state: dict[str, Tensor], shards: int = 1):
    for file in [*Path(folder).glob("*.safetensors*")]:
        file.unlink()
    if shards == 1:
        return save_file(state, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    files = {key: f"model-{i % shards + 1:05}-of-{shards:05}.safetensors" for i, key in enumerate(state)}
    for name in set(files.values()):
        save_file({key: state[key] for key in state if files[key] == name}, Path(folder) / name)
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))


def read_state(folder) -> dict[str, Tensor]:
    files = sorted(Path(folder).glob("*.safetensors"))
    return {key: tensor for file in files for key, tensor in load_file(file).items()}


def read_config(folder) -> dict:
    return json.loads((Path(folder) / "config.json").read_text())


def evaluate(folder, dtype, gate_dtype) -> list[dict[str, Tensor]]:
    """
    Reward, means and log stds of ROWS: the last token's hidden state; `score` in the backbone's dtype, seen as pairs
    of a mean and a log std; the gate in its own dtype, without softmax; the sum of means times gates.
    """
    state, config = read_state(folder), LlamaConfig.from_pretrained(folder)
    backbone = LlamaModel(config).to(dtype).eval()
    backbone.load_state_dict({key[6:]: state[key] for key in state if key.startswith("model.")})
    results = []
    for row in ROWS:
        with torch.no_grad():
            hidden = backbone(input_ids=torch.tensor([row])).last_hidden_state[0, -1]
        pairs = (state["score.weight"].to(dtype) @ hidden).view(config.num_labels // 2, 2)
        x = hidden.to(gate_dtype)
        for layer in (0, 2, 4):
            weight, bias = (state[f"weights.fc.{layer}.{kind}"].to(gate_dtype) for kind in ("weight", "bias"))
            x = F.linear(F.selu(x) if layer else x, weight, bias)
        results.append({"reward": (pairs[:, 0] * x).sum(), "means": pairs[:, 0], "log_stds": pairs[:, 1], "gate": x})
    return results


def our_rewards(folder, **kwargs) -> Tensor:
    model = URMForRewardModeling.from_pretrained(folder, **kwargs)
    with torch.no_grad():
        rows = [model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row))).logits for row in ROWS]
    return torch.cat(rows)[:, 0]


def their_rewards(folder, dtype=torch.float32, gate_dtype=torch.float32) -> Tensor:
    return torch.stack([result["reward"].float() for result in evaluate(folder, dtype, gate_dtype)])


def assert_same_tensors(a, b):
    ours, theirs = read_state(a), read_state(b)
    assert ours.keys() == theirs.keys()
    assert {key: ours[key].dtype for key in ours} == {key: theirs[key].dtype for key in theirs}
    assert [key for key in ours if not torch.equal(ours[key], theirs[key])] == []


def edit_config(folder, **changes):
    (Path(folder) / "config.json").write_text(json.dumps(read_config(folder) | changes))


@pytest.fixture
def published(tmp_path) -> str:
    return write_published(tmp_path / "published")


# Published to ours


@pytest.mark.parametrize("shards", [1, 3])
def test_in_float32_all_numbers_are_those_of_the_published_model(tmp_path, shards):
    source = write_published(tmp_path / "in", torch.float32, shards=shards)
    result = convert_published(source, tmp_path / "out")
    assert result.attributes == HELPSTEER2_ATTRIBUTES
    expected = evaluate(source, torch.float32, torch.float32)
    model = URMForRewardModeling.from_pretrained(tmp_path / "out")
    assert max(abs(row["reward"]) for row in expected) > 1
    for row, numbers in zip(ROWS, expected, strict=True):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)))
        torch.testing.assert_close(output.logits[0, 0], numbers["reward"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.attribute_means[0], numbers["means"], atol=1e-5, rtol=0)
        torch.testing.assert_close(output.attribute_stds[0], numbers["log_stds"].exp(), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(output.gating_weights[0], numbers["gate"], atol=1e-5, rtol=0)


def test_in_float16_rewards_are_within_the_tolerance_that_servers_accept(published, tmp_path):
    convert_published(published, tmp_path / "out")
    theirs = their_rewards(published, torch.float16, torch.float16)
    torch.testing.assert_close(our_rewards(tmp_path / "out"), theirs, atol=4e-2, rtol=0)
    # and nearer to what these weights give in exact arithmetic
    exact = their_rewards(published)
    torch.testing.assert_close(our_rewards(tmp_path / "out", dtype=torch.float32), exact, atol=1e-5, rtol=0)


def test_the_backbone_keeps_its_dtype_and_the_head_is_float32(published, tmp_path):
    result = convert_published(published, tmp_path / "out")
    before, after = read_state(published), read_state(tmp_path / "out")
    body = [key for key in before if key.startswith("model.")]
    assert all(after[key].dtype == torch.float16 and torch.equal(after[key], before[key]) for key in body)
    assert {tensor.dtype for key, tensor in after.items() if key.startswith("score.")} == {torch.float32}
    assert result.dtypes == {"backbone": torch.float16, "head": torch.float32}
    assert read_config(tmp_path / "out")["dtype"] == "float16"
    assert result.parameters == sum(tensor.numel() for tensor in before.values())


def test_the_config_describes_the_model_and_brings_no_foreign_code(published, tmp_path):
    convert_published(published, tmp_path / "out", attributes=list("abcde"))
    config = URMConfig.from_pretrained(tmp_path / "out")
    assert config.attributes == list("abcde") and config.log_std_bounds is None
    assert config.architectures == ["URMForRewardModeling"]
    assert config.training == {"converted_from": {"name": published, "revision": None}}
    assert config.backbone_config.num_labels == 2 and ARCHITECTURE not in json.dumps(read_config(tmp_path / "out"))
    assert "modeling_custom" not in json.dumps(read_config(tmp_path / "out"))
    rope = LlamaConfig.from_pretrained(published).rope_parameters
    assert config.backbone_config.rope_parameters == rope and rope["rope_type"] == "llama3"


def test_tokenizer_template_and_licence_come_along_and_other_files_do_not(published, tmp_path):
    for name in ("LICENSE", "README.md", "modeling_custom.py", "pytorch_model.bin"):
        (Path(published) / name).write_text(name)
    convert_published(published, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"LICENSE", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "modeling_urm.py"} <= names
    assert not names & {"README.md", "modeling_custom.py", "pytorch_model.bin"}
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    score = RewardScorer(str(tmp_path / "out")).score([conversation])[0]
    assert list(score.attribute_means) == HELPSTEER2_ATTRIBUTES


@pytest.mark.parametrize("pad", [None, 7])
def test_the_pad_token_is_the_published_one_or_none(tmp_path, pad):
    convert_published(write_published(tmp_path / "in", pad_token_id=pad), tmp_path / "out")
    model = URMForRewardModeling.from_pretrained(tmp_path / "out")
    assert model.config.pad_token_id == pad
    if pad is None:
        with pytest.raises(ValueError, match="`attention_mask` is missing and the model has no `pad_token_id`"):
            model(input_ids=torch.zeros(2, 3, dtype=torch.long))


def test_frequencies_that_old_files_hold_are_left_out_and_said_so(published, tmp_path):
    expected = their_rewards(published)
    write_state(published, read_state(published) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    result = convert_published(published, tmp_path / "out")
    assert result.notes == ["left out 1 tensors `rotary_emb.inv_freq`, which the config determines"]
    torch.testing.assert_close(our_rewards(tmp_path / "out", dtype=torch.float32), expected, atol=1e-5, rtol=0)


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
    torch.testing.assert_close(their_rewards(tmp_path / "there"), our_rewards(tmp_path / "ours"), atol=1e-5, rtol=0)
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
    torch.testing.assert_close(their_rewards(tmp_path / "there"), our_rewards(tmp_path / "ours"), atol=1e-5, rtol=0)


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
    torch.testing.assert_close(their_rewards(tmp_path / "there"), our_rewards(ours), atol=1e-5, rtol=1e-5)
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


# Bad sources


def without(*keys):
    return lambda state: {key: tensor for key, tensor in state.items() if key not in keys}


def with_tensor(key: str, change):
    return lambda state: state | {key: change(state.get(key))}


BAD_TENSORS = [
    (without("weights.fc.4.bias"), r"missing: weights\.fc\.4\.bias\."),
    (without("score.weight", "model.norm.weight"), r"missing: model\.norm\.weight, score\.weight\."),
    (with_tensor("lm_head.weight", lambda _: torch.zeros(3)), r"unexpected: lm_head\.weight\."),
    (with_tensor("score.weight", lambda t: t[:8].clone()), r"score\.weight \[8, 64\] instead of \[10, 64\]"),
    (with_tensor("weights.fc.0.weight", lambda t: t[:48].clone()), r"weights\.fc\.0\.weight \[48, 64\] instead"),
    (with_tensor("score.weight", lambda t: t * float("nan")), r"score\.weight of .* not finite"),
    (with_tensor("model.norm.weight", lambda t: t * float("inf")), r"model\.norm\.weight of .* not finite"),
    (with_tensor("score.weight", lambda t: t.double()), r"score\.weight of .* is F64"),
    (with_tensor("model.norm.weight", lambda t: t.to(torch.int8)), r"model\.norm\.weight of .* is I8"),
]


@pytest.mark.parametrize("change, message", BAD_TENSORS)
def test_bad_tensors_are_refused_and_nothing_is_left(published, tmp_path, change, message):
    write_state(published, change(read_state(published)))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        convert_published(published, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


BAD_CONFIGS = [
    ({"id2label": {str(i): str(i) for i in range(9)}, "label2id": {}}, "has 9 labels; .* two for each attribute"),
    ({"id2label": {"0": "a"}, "label2id": {}}, "has 1 labels"),
    (
        {"id2label": {str(i): str(i) for i in range(6)}, "label2id": {}},
        "`attributes` is missing: name the 3 attributes",
    ),
    ({"architectures": ["LlamaForSequenceClassification"]}, "has not the published layout: `architectures` is"),
    ({"architectures": None}, "has not the published layout: `architectures` is None"),
    ({"model_type": "qwen2"}, "`model_type` 'qwen2'; the published layout is a Llama"),
    ({"model_type": "urm"}, "has this package's layout already"),
    ({"quantization_config": {"quant_method": "gptq"}}, "is quantised"),
    ({"num_hidden_layers": 3}, r"missing: model\.layers\.2\..* and 4 more"),
    ({"hidden_size": 32}, "of another shape: "),
]


@pytest.mark.parametrize("changes, message", BAD_CONFIGS)
def test_bad_configs_are_refused(published, tmp_path, changes, message):
    edit_config(published, **changes)
    with pytest.raises(ValueError, match=message):
        convert_published(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("attributes", [["a", "b"], list("abcdef"), "abcde", [], list("aabcd")])
def test_attributes_that_do_not_fit_are_refused(published, tmp_path, attributes):
    with pytest.raises(ValueError, match="`attributes`"):
        convert_published(published, tmp_path / "out", attributes=attributes)


def test_pickled_weights_are_refused_unread(published, tmp_path, monkeypatch):
    (Path(published) / "model.safetensors").rename(Path(published) / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match="pickled weights .* never loaded. Save it again with `save_pretrained`"):
        convert_published(published, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 5, 2000, -100])
def test_a_damaged_file_is_named(published, tmp_path, keep):
    path = Path(published) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        convert_published(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(tmp_path):
    source = write_published(tmp_path / "in", shards=3)
    (tmp_path / "in" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="names 'model-00002-of-00003.safetensors', which is not there"):
        convert_published(source, tmp_path / "out")


def test_folders_that_are_not_there_or_not_free(published, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        convert_published(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        convert_published(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="`revision` pins .* to 'v1', but it is a folder"):
        convert_published(published, tmp_path / "out", revision="v1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder"):
        convert_published(published, tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder"):
        convert_published(published, published)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_an_interruption_leaves_nothing(published, tmp_path, monkeypatch):
    def fail_at_the_second(tensors, path, **kwargs):
        if "00002" in path.name:
            raise KeyboardInterrupt
        assert not (tmp_path / "out").exists()
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr(checkpoint_files, "save_file", fail_at_the_second)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        convert_published(published, tmp_path / "out", max_shard_size="40KB")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("convert", [convert_published, convert_sglang])
def test_no_more_than_a_shard_of_the_backbone_is_in_memory(published, tmp_path, monkeypatch, convert):
    if convert is convert_sglang:
        convert_published(published, tmp_path / "ours")
        published = str(tmp_path / "ours")
    alive, most = {}, 0

    class Spy(OpenedFile):
        def get_tensor(self, key):
            nonlocal most
            tensor = self.file.get_tensor(key)
            if key.startswith("model."):
                alive[id(tensor)] = tensor.nbytes
                weakref.finalize(tensor, alive.pop, id(tensor))
                most = max(most, sum(alive.values()))
            return tensor

    monkeypatch.setattr(checkpoint_files, "safe_open", Spy)
    convert(published, tmp_path / "out", max_shard_size="40KB")
    body = sum(tensor.nbytes for key, tensor in read_state(published).items() if key.startswith("model."))
    assert 0 < most <= 2 * 40_000 < body


def test_a_repository_is_pinned_and_its_commit_recorded(published, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(name, revision, allow_patterns, **kwargs):
        calls.append((name, revision, kwargs))
        assert not any("bin" in pattern or pattern.endswith(".py") for pattern in allow_patterns)
        return shutil.copytree(published, tmp_path / "snapshots" / "c0ffee")

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    result = convert_published("org/urm", tmp_path / "out", revision="v1", token="t", local_files_only=True)
    assert calls == [("org/urm", "v1", {"token": "t", "local_files_only": True})]
    assert result.revision == "c0ffee"
    assert read_config(tmp_path / "out")["training"] == {"converted_from": {"name": "org/urm", "revision": "c0ffee"}}


# Loading the published layout by mistake


ARGS = {"seed": 0, "model_init_kwargs": None, "trust_remote_code": False}
LOADERS = {
    "from_pretrained": URMForRewardModeling.from_pretrained,
    "config": URMConfig.from_pretrained,
    "from_backbone": URMForRewardModeling.from_backbone,
    "scorer": RewardScorer,
    "scorer of what transformers loads": lambda f: RewardScorer(AutoModelForSequenceClassification.from_pretrained(f)),
    "ensemble": lambda folder: URMEnsemble.from_pretrained([folder, folder]),
    "attribute stage": lambda folder: load_urm(folder, SimpleNamespace(**ARGS)),
    "gating stage": lambda folder: load_urm(folder, SimpleNamespace(**ARGS), fresh_heads=False),
}


@pytest.mark.parametrize("loader", LOADERS)
def test_loading_it_unconverted_names_the_command(published, loader):
    with pytest.raises(ValueError, match="`urm convert published .*OUT`, and load OUT"):
        LOADERS[loader](published)


# The command


def test_urm_convert_there_and_back(published, tmp_path, capsys):
    out, back = str(tmp_path / "out"), str(tmp_path / "back")
    assert main(["convert", "published", published, out, "--attributes", *"abcde"]) == 0
    printed = capsys.readouterr().out
    parameters = sum(tensor.numel() for tensor in read_state(published).values())
    assert printed.splitlines() == [
        f"{out}: {published}",
        f"  {parameters:,} parameters: backbone float16, head float32",
        "  attributes: a, b, c, d, e",
        f"Load it with `RewardScorer({out!r})`; or `urm score {out} --data ROWS --out SCORED`.",
    ]
    assert main(["convert", "sglang", out, back, "--max-shard-size", "40KB"]) == 0
    printed = capsys.readouterr().out
    assert f"{parameters:,} parameters: backbone float16, value head float16, gate float16" in printed
    assert f"--model-path {back}" in printed
    assert_same_tensors(back, published)


def test_urm_convert_reports_errors_in_one_line(published, tmp_path, capsys):
    assert main(["convert", "published", published, str(tmp_path / "out"), "--attributes", "a"]) == 2
    assert main(["convert", "sglang", published, str(tmp_path / "out")]) == 2
    assert main(["convert", "published", published, str(tmp_path)]) == 2
    errors = capsys.readouterr().err.strip().splitlines()
    assert len(errors) == 3 and all(line.startswith("urm convert: error: ") for line in errors)


@pytest.mark.parametrize("layout", ["published", "sglang"])
def test_help(layout, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", layout, "--help"])
    assert stop.value.code == 0 and "--revision" in capsys.readouterr().out
