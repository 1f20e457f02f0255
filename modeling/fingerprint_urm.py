"""Which weights an adapter was trained on, in few bytes. This file travels with ensemble repositories."""

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import safe_open

from .checks_urm import explain_damage

BASE_RECORD = "adapter_base"  # in the config.json beside an adapter
# an adapter brings a head of its own: that of its base, an adapter too perhaps, computes nothing
HEADS = ("score.", "lm_head.", "base_model.model.score.")
SAMPLED = 64  # numbers along each axis but the first


def compute_fingerprint(files: Mapping[str, str]) -> str:
    """
    The SHA-256 of a checkpoint's names, shapes, dtypes and of a sample of each tensor, without its heads.

    It does not change when the checkpoint is cut into other files; it does when the weights were trained further or
    rounded to another dtype, both of which change nearly every number. Of eight billion parameters it reads less than
    a megabyte.

    Args:
        files (`Mapping[str, str]`): path of the safetensors file of each tensor, by the tensor's name.

    Raises:
        ValueError: a file is damaged.
    """
    digest = hashlib.sha256()
    parts: dict[str, bytes] = {}
    for path in sorted(set(files.values())):
        with explain_damage(path), safe_open(path, framework="pt") as file:
            for key in sorted(key for key, place in files.items() if place == path and not key.startswith(HEADS)):
                parts[key] = _describe_tensor(file.get_slice(key))
    for key in sorted(parts):
        digest.update(key.encode() + b"\0" + parts[key] + b"\0")
    return digest.hexdigest()


def _describe_tensor(stored: Any) -> bytes:
    """Dtype and shape, and what the first, the middle and the last row begin with."""
    shape = stored.get_shape()
    told = f"{stored.get_dtype()} {shape}".encode()
    if not shape or 0 in shape:  # a single number is a statistic or a scale
        return told
    rest = (slice(0, SAMPLED),) * (len(shape) - 1)
    for row in sorted({0, shape[0] // 2, shape[0] - 1}):
        last = min(row + (SAMPLED if len(shape) == 1 else 1), shape[0])
        sample = stored[(slice(row, last), *rest)].contiguous()
        told += sample.view(torch.uint8).numpy().tobytes()
    return told


def check_record(record: Any, fingerprint: str, adapter: str, base: str):
    """
    Refuses a base with other weights than those that an adapter was trained on.

    Args:
        record (`Any`): what the adapter's config.json says of its base; nothing in old adapters, and then any fits.
        fingerprint (`str`): of the base that it is put on now.
        adapter (`str`), base (`str`): how an error names them.

    Raises:
        ValueError: names both bases.
    """
    if record is None:
        return
    if not isinstance(record, dict) or not isinstance(record.get("fingerprint"), str):
        raise ValueError(f"config.json of {adapter} is damaged: `{BASE_RECORD}` is {record!r:.100}.")
    if record["fingerprint"] == fingerprint:
        return
    trained_on = name_base(str(record.get("name")), record.get("commit"))
    raise ValueError(
        f"The adapter {adapter} was trained on {trained_on}, but {base} has other weights, on which its rewards mean "
        "nothing. Name the right base in its adapter_config.json (`base_model_name_or_path`, `revision`); if the "
        f"weights were changed on purpose, remove `{BASE_RECORD}` from its config.json."
    )


def name_base(name: str, commit: Any) -> str:
    return f"{name} at {commit}" if commit else name
