"""
The tensors of a served model, held against its configs before vLLM gets any: vLLM itself serves numbers also where
weights are missing.
"""

from collections.abc import Iterator
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from urm_hf.checkpoints.published import open_published
from urm_hf.modeling.checks_urm import explain_damage
from urm_hf.modeling.configuration_urm import URMConfig
from urm_hf.modeling.members_urm import (
    ADAPTER_PREFIX,
    BACKBONE,
    HEAD,
    MemberSource,
    check_equal_backbones,
    check_heads,
    find_common_base,
    read_tensors,
)
from urm_hf.modeling.modeling_urm import URMForRewardModeling
from urm_hf.serving.vllm.served import ServedModel

ELSEWHERE = "`urm serve` without --engine vllm serves any ensemble"


def list_shapes(config: URMConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor that a checkpoint of this config has, by its name."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in URMForRewardModeling(config).state_dict().items()}


def read_backbone(served: ServedModel) -> Iterator[tuple[str, Tensor]]:
    """
    (name, tensor) of the backbone, whose names begin with "model."; all members share it.

    Raises:
        ValueError: tensors are missing, unexpected or of another shape, or members have unlike backbones.
    """
    if served.is_published:
        _, tensors = open_published(served.name, served.revision)
        yield from ((name, tensor) for name, tensor in tensors() if name.startswith(BACKBONE))
        return
    first, expected = served.sources[0], list_shapes(served.configs[0])
    if served.has_adapters:
        base = find_common_base(served.sources)
        if base.adapter is not None:
            raise ValueError(f"{base.name}, on which {first.name} was trained, is an adapter too: merge it first.")
        for source in served.sources:
            _check_adapter(source, expected)
        # of a language model or another URM, whose head nobody reads
        files = {name: path for name, path in base.weight_files().items() if name.startswith(BACKBONE)}
        expected = {name: shape for name, shape in expected.items() if name.startswith(BACKBONE)}
        name = base.name
    else:
        files, name = first.weight_files(), first.name
    _check_shapes(name, files, expected)
    for source in served.sources[1:] if not served.has_adapters else ():
        try:
            check_equal_backbones(first, source)
        except ValueError as error:
            raise ValueError(f"vLLM holds one backbone for all members. {error} {ELSEWHERE}.") from error
    yield from read_tensors(files, BACKBONE)


def read_heads(served: ServedModel) -> list[dict[str, Tensor]]:
    """
    The tensors of each member's head, by their names in [`URMHead`].

    Raises:
        ValueError: some are missing, unexpected or of another shape, or two heads are equal.
    """
    if served.is_published:
        _, tensors = open_published(served.name, served.revision)
        return [{name.removeprefix(HEAD): tensor for name, tensor in tensors() if name.startswith(HEAD)}]
    heads = []
    for source, config in zip(served.sources, served.configs, strict=True):
        head = source.head()
        shapes = {name: shape for name, shape in list_shapes(config).items() if name.startswith(HEAD)}
        found = {HEAD + name: tuple(tensor.shape) for name, tensor in head.items()}
        _compare(source.name, found, shapes)
        heads.append(head)
    check_heads([source.name for source in served.sources], heads)
    return heads


def _check_shapes(name: str, files: dict[str, str], expected: dict[str, tuple[int, ...]]):
    found: dict[str, tuple[int, ...]] = {}
    for path in set(files.values()):
        with explain_damage(path), safe_open(path, framework="pt") as file:
            found |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys() if key in files}  # noqa: SIM118
    _compare(name, found, expected)


def _compare(name: str, found: dict[str, Any], expected: dict[str, Any]):
    wrong = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(found.keys() - expected.keys()),
        "of another shape": sorted(key for key in found.keys() & expected.keys() if found[key] != expected[key]),
    }
    if any(wrong.values()):
        told = "; ".join(f"{kind}: {', '.join(keys[:5])}" for kind, keys in wrong.items() if keys)
        raise ValueError(f"the weights of {name} do not fit its config, {told}. Save or download it again.")


def _check_adapter(source: MemberSource, expected: dict[str, tuple[int, ...]]):
    """Each module that an adapter changes is one of the backbone's, and has both of its matrices."""
    parts: dict[str, set[str]] = {}
    for key in source.weight_files():
        module, _, part = key.removeprefix(ADAPTER_PREFIX).partition(".lora_")
        if part:
            parts.setdefault(module, set()).add(part)
        elif not module.startswith(HEAD):
            raise ValueError(f"the adapter {source.name} has {key}: vLLM takes LoRA and the head, nothing else.")
    for module, found in sorted(parts.items()):
        if f"{module}.weight" not in expected:
            raise ValueError(f"the adapter {source.name} changes {module}, which its base has not.")
        if found != {"A.weight", "B.weight"}:
            raise ValueError(f"the adapter {source.name} is incomplete: of {module} it has only {sorted(found)}.")
