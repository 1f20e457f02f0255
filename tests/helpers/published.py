"""Models in the published layout, and an evaluation of them written from its description alone."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from tests.helpers.tiny import PAD, random_rows, tiny_tokenizer
from urm_hf import URMForRewardModeling

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
