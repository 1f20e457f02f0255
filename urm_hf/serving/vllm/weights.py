"""
The tensors of a served model, held against its configs before vLLM gets any: vLLM itself serves numbers also where
weights are missing.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from safetensors import safe_open
from torch import Tensor

from urm_hf.checkpoints.published import open_published
from urm_hf.modeling.backbone_urm import read_config
from urm_hf.modeling.base_urm import BASE_WEIGHTS, find_base
from urm_hf.modeling.checks_urm import compare_layouts, explain_damage
from urm_hf.modeling.configuration_urm import URMConfig
from urm_hf.modeling.member_checks_urm import check_heads
from urm_hf.modeling.members_urm import (
    ADAPTER_PREFIX,
    BACKBONE,
    HEAD,
    MemberSource,
    check_equal_backbones,
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
    for source in served.sources if served.has_adapters else ():
        _check_adapter(source, expected)
    holder = _find_backbone(first, served)
    files, renamed = holder.weight_files(), ""
    if holder is not first:  # a language model or another URM, whose head nobody reads
        expected = {name: shape for name, shape in expected.items() if name.startswith(BACKBONE)}
        if any(name.startswith(BACKBONE) for name in files):
            files = {name: path for name, path in files.items() if name.startswith(BACKBONE)}
        else:  # a decoder by itself
            renamed = BACKBONE
    found = {renamed + name: shape for name, shape in _read_shapes(files).items()}
    _check_layout(holder.name, found, expected)
    for source in served.sources[1:] if not served.has_adapters else ():
        try:
            check_equal_backbones(first, source)
        except ValueError as error:
            raise ValueError(f"vLLM holds one backbone for all members. {error} {ELSEWHERE}.") from error
    yield from ((renamed + name, tensor) for name, tensor in read_tensors(files, "" if renamed else BACKBONE))


def _find_backbone(first: MemberSource, served: ServedModel) -> MemberSource:
    """What holds the backbone's weights: the first member itself, or what it was trained on."""
    holder = find_common_base(served.sources) if served.has_adapters else first
    if holder.adapter is not None:
        raise ValueError(f"{holder.name}, on which {first.name} was trained, is an adapter too: merge it first.")
    record = read_config(holder.name, holder.place).get(BASE_WEIGHTS)
    if record is None:
        return holder
    name, place = find_base(record, holder.name, holder.place)
    return MemberSource(name, place.revision, place)


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
        found = {HEAD + name: tensor.shape for name, tensor in head.items()}
        _check_layout(source.name, found, shapes)
        heads.append(head)
    check_heads([source.name for source in served.sources], heads)
    return heads


def _read_shapes(files: dict[str, str]) -> dict[str, list[int]]:
    shapes: dict[str, list[int]] = {}
    for path in set(files.values()):
        with explain_damage(path), safe_open(path, framework="pt") as file:
            shapes |= {key: file.get_slice(key).get_shape() for key in file.keys() if key in files}  # noqa: SIM118
    return shapes


def _check_layout(name: str, found: Mapping[str, Sequence[int]], expected: Mapping[str, Sequence[int]]):
    difference = compare_layouts(found, expected)
    if any(difference):
        raise ValueError(f"the weights of {name} do not fit its config, {difference}. Save or download it again.")


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
