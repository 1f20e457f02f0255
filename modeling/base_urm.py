"""
Checkpoints of heads alone, which name the backbone that they were trained on. This file travels with every checkpoint.

A frozen backbone is not changed by training, so that a copy of it beside each head would only cost space: of an 8B
model 16 GB for some megabytes. `config.json` names it instead, a repository at one commit or a folder, with a
fingerprint of its weights: on others the heads would mean nothing.
"""

import os
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModel, PreTrainedModel
from transformers.utils import logging
from transformers.utils.hub import extract_commit_hash

from .backbone_urm import find_weights, read_config
from .checks_urm import check_size, compare_layouts, explain_damage, load_alone
from .configuration_urm import URMConfig
from .fingerprint_urm import compute_fingerprint, name_base
from .head_urm import URMHead
from .hub_place_urm import HubPlace

BASE_WEIGHTS = "base_weights"  # in config.json
BACKBONE, HEAD = "model.", "score."
SAMPLED = 64  # numbers along each axis but the first
# arguments of `from_pretrained` that are about the repository of the heads
OF_HEADS = (
    *("config", "state_dict", "num_labels", "trust_remote_code", "code_revision", "adapter_kwargs"),
    *("use_safetensors", "ignore_mismatched_sizes", "weights_only"),
)

logger = logging.get_logger(__name__)


def describe_base(name: str, place: HubPlace) -> dict[str, Any] | None:
    """
    How a checkpoint names its backbone.

    Args:
        name (`str`): repository or folder of a causal LM or reward model. place (`HubPlace`): where it is looked for.

    Returns:
        `dict`: `name`, `commit` (None of a folder) and `fingerprint`; or None where heads must be saved with their
        backbone: it is quantised, an adapter on another model, needs code of its own, or has no safetensors.
    """
    config = read_config(name, place)
    if not config or config.get("quantization_config") or config.get("auto_map"):
        return None
    if place.find_file(name, "adapter_config.json") is not None:
        return None
    try:
        fingerprint = _read_fingerprint(name, place)
    except ValueError:
        return None
    folder = os.path.isdir(name)
    commit = None if folder else extract_commit_hash(place.find_file(name, "config.json"), None)
    return {"name": os.path.abspath(name) if folder else name, "commit": commit, "fingerprint": fingerprint}


def _read_fingerprint(name: str, place: HubPlace) -> str:
    files: dict[str, str] = {}
    for path in find_weights(name, place):
        with explain_damage(path), safe_open(path, framework="pt") as file:
            files |= dict.fromkeys(file.keys(), path)
    return compute_fingerprint(files)


def find_base(record: Mapping[str, Any], heads: str, place: HubPlace) -> tuple[str, HubPlace]:
    """
    Repository or folder of the backbone that a checkpoint names, and its state.

    Args:
        record (`Mapping`): what [`describe_base`] gave. heads (`str`): how an error names the checkpoint.
        place (`HubPlace`): of the checkpoint, for access to the Hub.

    Raises:
        ValueError: it has other weights than the heads were trained on. OSError: it cannot be had.
    """
    name, base = record["name"], place.of_another(record["commit"])
    told = name_base(name, record["commit"])
    if os.path.isabs(name) and not os.path.isdir(name):
        raise OSError(
            f"{heads} holds heads alone, of a model on {name}, and there is no such folder. Bring it back, or name "
            f"where it is now in config.json of {heads} (`{BASE_WEIGHTS}`)."
        )
    if not read_config(name, base):
        raise OSError(f"{heads} holds heads alone, of a model on {told}, where there is no config.json.")
    if _read_fingerprint(name, base) != record["fingerprint"]:
        raise ValueError(
            f"{heads} holds heads that were trained on {told}, which now has other weights: on these its rewards mean "
            "nothing. Bring the former ones back."
        )
    return name, base


def load_base(record: Mapping[str, Any], heads: str, place: HubPlace, **kwargs: Any) -> PreTrainedModel:
    """
    The backbone that a checkpoint names.

    Args:
        record, heads, place: as of [`find_base`]. kwargs: of `from_pretrained` (`dtype`, `device_map`, ...).

    Raises:
        ValueError, OSError: as [`find_base`], or weights of the decoder are missing.
    """
    name, base = find_base(record, heads, place)
    check_size(read_config(name, base), find_weights(name, base), name)
    with load_alone(name):
        backbone, info = AutoModel.from_pretrained(
            name, output_loading_info=True, use_safetensors=True, trust_remote_code=False, **base.kwargs(), **kwargs
        )
    if info["missing_keys"]:
        raise ValueError(f"{name} lacks weights of its decoder: {sorted(info['missing_keys'])[:5]}.")
    return backbone


def read_heads(name: str, place: HubPlace) -> dict[str, Tensor]:
    """The tensors of a checkpoint of heads alone."""
    tensors: dict[str, Tensor] = {}
    for path in find_weights(name, place):
        with explain_damage(path), safe_open(path, framework="pt") as file:
            tensors |= {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (it is no mapping)
    return tensors


def load_heads(cls: Any, name: str, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """
    A checkpoint of heads alone, on the backbone that it names.

    Args:
        cls (`type`): `URMForRewardModeling`. name (`str`): repository or folder. kwargs: of its `from_pretrained`.

    Returns:
        `tuple`: the model, and the names of tensors that are missing, unexpected or misshapen; then nothing is loaded.
    """
    config, place = kwargs.get("config"), HubPlace.take(kwargs)
    if not isinstance(config, URMConfig):
        config = URMConfig.from_pretrained(name, **place.kwargs())
    kwargs = {key: value for key, value in kwargs.items() if key not in OF_HEADS and not key.startswith("_")}
    dtype = kwargs.pop("dtype", kwargs.pop("torch_dtype", None))
    # by default not that of the backbone's files, in which the heads need not have been trained
    kwargs["dtype"] = config.dtype if dtype in (None, "auto") else dtype
    record = config.base_weights or {}
    backbone = load_base(record, name, place, **kwargs)
    config.dtype = backbone.dtype
    with torch.device("meta"):  # where transformers draws no weights
        model = cls(config, backbone)
    model.score, tensors = URMHead(config), read_heads(name, place)
    expected = {f"{HEAD}{key}": tensor.shape for key, tensor in model.score.state_dict().items()}
    difference = compare_layouts({key: tensor.shape for key, tensor in tensors.items()}, expected)
    if not any(difference):
        model.score.load_state_dict({key.removeprefix(HEAD): tensor for key, tensor in tensors.items()})
    model.score.to(backbone.device)
    model.config.name_or_path = model.name_or_path = name
    model.refer_to_base(record)
    return model.eval(), dict(zip(("missing_keys", "unexpected_keys", "mismatched_keys"), difference, strict=True))


class SavesHeadsAlone:
    """For [`URMForRewardModeling`]: what of it is saved where its config names the backbone."""

    # of the model that it is mixed into
    config: Any
    state_dict: Any
    _backbone_digest: int | None = None

    def refer_to_base(self, base: dict[str, Any] | None) -> None:
        """
        Has `save_pretrained` write the heads alone, as long as the backbone stays as it is now.

        Args:
            base (`dict` or `None`): what [`describe_base`] gave of the backbone's source. None: all is written.
        """
        self.config.base_weights = base
        self._backbone_digest = None if base is None else digest_backbone(self.state_dict())

    def choose_state(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Of all weights, those to save: the heads, or all again where the backbone was changed meanwhile."""
        heads = {key: tensor for key, tensor in state.items() if key.startswith(HEAD)}
        digest = digest_backbone(state)
        if len(heads) == len(state) or (digest is not None and digest == self._backbone_digest):
            return heads
        logger.warning("The backbone is no longer the one that was loaded: it is saved with the heads.")
        self.config.base_weights = None
        return state


def digest_backbone(state: Mapping[str, Tensor]) -> int | None:
    """
    A number that changes when the backbone is trained or rounded, from a sample of each tensor; None where its
    weights are not at hand, as those on the meta device or in parts.
    """
    parts = []
    for key in sorted(key for key in state if key.startswith(BACKBONE)):
        tensor = state[key]
        if tensor.is_meta or hasattr(tensor, "full_tensor"):
            return None
        parts.append((key, str(tensor.dtype), tuple(tensor.shape), _sample(tensor.detach())))
    return hash(tuple(parts)) if parts else None


def _sample(tensor: Tensor) -> bytes:
    """What the first, the middle and the last row begin with; of a vector, its ends and its middle."""
    if tensor.ndim == 0 or 0 in tensor.shape:
        return tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    rest = (slice(0, SAMPLED),) * (tensor.ndim - 1)
    rows = sorted({0, len(tensor) // 2, len(tensor) - 1})
    width = SAMPLED if tensor.ndim == 1 else 1
    parts = [tensor[(slice(row, row + width), *rest)].flatten() for row in rows]
    return torch.cat(parts).cpu().view(torch.uint8).numpy().tobytes()
