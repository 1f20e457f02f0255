"""
The published layout of URMs: its names for our tensors, its head, its config, and what it cannot express.

n attributes, H hidden size, G gating width.

| published | here |
|---|---|
| config.json: a flat `LlamaConfig` of 2n labels | `URMConfig` around that `LlamaConfig`, `attributes` |
| `model.*` | `model.*`, the same in name, dtype and value |
| `score.weight` (2n, H): mean 0, log std 0, mean 1, log std 1, ... | `score.value.weight`: n means, then n log stds |
| `weights.fc.{0,2,4}`, H-H-H-n | `score.gate.{0,2,4}`, H-G-G-n |
| none of these: fixed weights, in the model card alone | `reward_weights` of the config |
"""

import torch
from torch import Tensor

from urm_hf.checkpoints.files import Checkpoint
from urm_hf.modeling import URMConfig
from urm_hf.modeling.configuration_urm import PUBLISHED_ARCHITECTURE, with_rope_of_version_4

CLASSIFIER = "LlamaForSequenceClassification"  # what the names of all such classes begin with
VALUE, SCORE, EMBEDDING = "score.value.weight", "score.weight", "model.embed_tokens.weight"
GATE = {f"score.gate.{layer}.{kind}": f"weights.fc.{layer}.{kind}" for layer in "024" for kind in ("weight", "bias")}
FEATURES, LABELS = ("score.feature_mean", "score.feature_scale"), ("score.label_mean", "score.label_std")
LABEL_NAMES = (" mean", " log std")  # of a row of `score.weight`, after the attribute
OUTER = ("architectures", "auto_map", "id2label", "label2id", "num_labels", "problem_type", "_name_or_path")


def published_name(key: str) -> str:
    return SCORE if key == VALUE else GATE.get(key, key)


def means_first(score: Tensor) -> Tensor:
    """(2n, H) of pairs mean, log std -> n rows of means, then n of log stds."""
    return torch.cat([score[0::2], score[1::2]])


def in_pairs(value: Tensor) -> Tensor:
    """The inverse of [`means_first`]."""
    return torch.stack(value.chunk(2), dim=1).flatten(0, 1)


def check_expressible(checkpoint: Checkpoint, config: URMConfig, pad_gate: bool) -> list[str]:
    """Raises with all reasons why SGLang cannot serve the model; returns what changes but for the reward."""
    backbone, reasons = config.backbone_config, []
    if backbone.model_type != "llama":
        reasons.append(f"its backbone is of type {backbone.model_type!r}, and SGLang's class for URMs is a Llama")
    elif backbone.mlp_bias or backbone.hidden_act != "silu":
        reasons.append("SGLang's Llama has SiLU and no `mlp_bias`")
    reasons += _gate_reasons(config, pad_gate)
    for key, option in ((FEATURES[0], "standardize_features"), (LABELS[0], "standardize_labels")):
        if checkpoint.tensor(key).any():
            reasons.append(
                f"{key} is not 0, and the value head there has no bias to take it; train with {option}=False"
            )
    if reasons:
        raise ValueError(f"SGLang cannot serve {checkpoint.name}: {'; '.join(reasons)}.")
    notes = []
    if (checkpoint.tensor(FEATURES[1]) != 1).any():
        notes.append("value head and gate were divided by score.feature_scale, which the layout lacks")
    if (checkpoint.tensor(LABELS[1]) != 1).any():
        notes.append("attributes are in units of score.label_std, which the layout lacks; the reward is the same")
    if config.posterior_rank is not None:
        notes.append("the posterior is left out, which the layout lacks: `epistemic` is gone; the reward is the same")
    if config.log_std_bounds is not None:
        notes.append(f"log stds outside {config.log_std_bounds} no longer bend; the reward does not use them")
    return notes


def _gate_reasons(config: URMConfig, pad_gate: bool) -> list[str]:
    hidden, width = config.hidden_size, config.gating_hidden_size
    padding = "" if pad_gate else "; `pad_gate=True` (--pad-gate) fills it up with zeros, which changes no reward"
    if config.reward_weights is not None:
        return [] if pad_gate else [f"it has fixed `reward_weights`, and SGLang always has a gate{padding}"]
    if width > hidden or (width < hidden and not pad_gate):
        padding = padding if width < hidden else ""
        return [f"its gate is {width} wide, and SGLang's as wide as the hidden size, {hidden}{padding}"]
    return []


def published_head(checkpoint: Checkpoint, config: URMConfig) -> dict[str, Tensor]:
    """
    The tensors of `score` and `weights`, each part in the backbone's dtype, float16 or float32: the first that has
    all its values. A gate narrower than H is filled up with zeros, and fixed weights are a last bias.
    """
    n, hidden, scale = len(config.attributes), config.hidden_size, checkpoint.tensor(FEATURES[1]).float()
    value = in_pairs(checkpoint.tensor(VALUE).float() / scale)
    if config.reward_weights is None:
        small = {GATE[key]: checkpoint.tensor(key).float() for key in GATE}
        small["weights.fc.0.weight"] = small["weights.fc.0.weight"] / scale
    else:  # they weigh means on the rating scale, a gate those in units of label_std
        small = {"weights.fc.4.bias": torch.tensor(config.reward_weights) * checkpoint.tensor(LABELS[1])}
    gate = {}
    for layer, rows in (("0", hidden), ("2", hidden), ("4", n)):
        gate[f"weights.fc.{layer}.weight"] = torch.zeros(rows, hidden)
        gate[f"weights.fc.{layer}.bias"] = torch.zeros(rows)
    for name, tensor in small.items():  # SELU(0) = 0: what is filled up adds nothing
        gate[name][tuple(map(slice, tensor.shape))] = tensor
    largest = max(tensor.abs().max().item() for tensor in gate.values())
    if largest > torch.finfo(torch.float16).max:
        raise ValueError(f"The gate of {checkpoint.name} has weights up to {largest:.3g}, and SGLang's is float16.")
    dtypes = (checkpoint.tensors[EMBEDDING].dtype, torch.float16, torch.float32)
    return _exactly({SCORE: value}, dtypes) | _exactly(gate, dtypes)


def _exactly(part: dict[str, Tensor], dtypes: tuple[torch.dtype, ...]) -> dict[str, Tensor]:
    """The float32 tensors in the first of the dtypes that has all their values."""
    for dtype in dtypes:
        cast = {key: tensor.to(dtype) for key, tensor in part.items()}
        if all(torch.equal(cast[key].float(), tensor) for key, tensor in part.items()):
            return cast
    raise ValueError(f"None of {dtypes} has all values of {', '.join(part)}.")


def build_published_config(config: URMConfig, dtype: torch.dtype) -> dict:
    """A flat config.json in the words that every version of transformers reads, and SGLang of any age."""
    backbone = with_rope_of_version_4(config.backbone_config.to_dict())
    flat = {key: value for key, value in backbone.items() if key not in (*OUTER, "rope_parameters", "dtype")}
    labels = [name + kind for name in config.attributes for kind in LABEL_NAMES]
    return flat | {
        "architectures": [PUBLISHED_ARCHITECTURE],
        "torch_dtype": str(dtype).removeprefix("torch."),
        "id2label": {str(row): label for row, label in enumerate(labels)},
        "label2id": {label: row for row, label in enumerate(labels)},
    }
