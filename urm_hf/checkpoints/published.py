"""URMs of the published layout, which SGLang serves, into this package's and back: tensor by tensor."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from urm_hf.checkpoints.files import Checkpoint, appears_whole, write_json, write_shards
from urm_hf.checkpoints.published_layout import (
    CLASSIFIER,
    EMBEDDING,
    FEATURES,
    GATE,
    LABEL_NAMES,
    LABELS,
    OUTER,
    SCORE,
    VALUE,
    build_published_config,
    check_expressible,
    means_first,
    published_head,
    published_name,
)
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig, URMForRewardModeling
from urm_hf.modeling.backbone_urm import read_config
from urm_hf.modeling.checks_urm import explain_damage
from urm_hf.modeling.configuration_urm import PUBLISHED_ARCHITECTURE, refuse_published_layout
from urm_hf.modeling.hub_place_urm import HubPlace

PublishedTensors: TypeAlias = Callable[[], Iterator[tuple[str, Tensor]]]  # by their names here, one at a time


@dataclass
class Conversion:
    """What was converted: its commit (None for a folder), attributes, number of parameters, dtypes, and remarks."""

    source: str
    revision: str | None
    attributes: list[str]
    parameters: int
    dtypes: dict[str, torch.dtype]
    notes: list[str] = field(default_factory=list)


def refuse_published(model: PreTrainedModel | str | PathLike, **hub):
    """
    A ValueError for a checkpoint of the published layout, or a plain Llama that was loaded from one.

    transformers takes it for a Llama classifier of 2n labels and leaves the gate out. `hub`: `revision`, `token`, ...
    """
    if isinstance(model, (str, PathLike)):
        refuse_published_layout(read_config(str(model), HubPlace.read(hub)).get("architectures"), str(model))
    elif type(model).__name__ != PUBLISHED_ARCHITECTURE:  # its own code, where a user trusts it, does compute rewards
        refuse_published_layout(getattr(model.config, "architectures", None), model.config.name_or_path)


def convert_published(
    source: str | Path,
    output_dir: str | Path,
    *,
    revision: str | None = None,
    attributes: Sequence[str] | None = None,
    reward_weights: Sequence[float] | None = None,
    max_shard_size: int | str = "5GB",
    token: str | bool | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Conversion:
    """
    Writes a URM of the published layout as one of this package. Every weight keeps its value.

    The backbone keeps its dtype, the head becomes float32. `log_std_bounds` is None, for the published head never
    bends its log stds; features and labels are not standardised.

    Args:
        source (`str` or `Path`): a folder or Hub repository with safetensors; pickled weights and code are never read.
        output_dir (`str` or `Path`): a new or empty folder. It appears whole, at the end.
        revision (`str`, *optional*): commit, branch or tag of a repository.
        attributes (`Sequence[str]`, *optional*): names, one for each pair of labels. Default: those that `id2label`
            names (as [`convert_sglang`] writes it), or for five the attributes of HelpSteer2.
        reward_weights (`Sequence[float]`, *optional*): of a URM that was published without a gate (no `weights.fc.*`),
            the fixed prior weights of its attributes; its config does not hold them.
        max_shard_size (`int` or `str`, defaults to `"5GB"`): of the files written. This much is held in memory.
        token (`str` or `bool`, *optional*): of an account that may read the repository.
        local_files_only (`bool`, defaults to `False`): takes what is in the cache, and downloads nothing.
        progress (`bool`, defaults to `False`): shows a progress bar.

    Returns:
        `Conversion`: what was converted.

    Raises:
        ValueError: another layout, missing or misshapen tensors, or values that are not finite; no gate and no
            `reward_weights`, or both.
        FileExistsError: `output_dir` exists and is not empty. FileNotFoundError: no such checkpoint.
    """
    with appears_whole(output_dir) as folder:
        checkpoint = Checkpoint(source, revision, token, local_files_only)
        with explain_damage(f"config.json of {source}"):
            config = _config_here(checkpoint, attributes, reward_weights)
        notes = _index_published(checkpoint, config)
        here = _layout_here(config)
        here |= {key: tensor for key, tensor in checkpoint.tensors.items() if key in here and key != VALUE}
        config.dtype = config.backbone_config.dtype = here[EMBEDDING].dtype
        write_shards(folder, here, lambda key: _tensor_here(checkpoint, key, here[key]), max_shard_size, progress)
        config.training = {"converted_from": {"name": checkpoint.name, "revision": checkpoint.revision}}
        config.save_pretrained(folder)
        custom_object_save(URMForRewardModeling, folder)
        checkpoint.copy_companions(folder)
    dtypes = {"backbone": config.dtype, "head": torch.float32}
    return Conversion(checkpoint.name, checkpoint.revision, config.attributes, _count(here), dtypes, notes)


def open_published(source: str | Path, revision: str | None = None) -> tuple[URMConfig, PublishedTensors]:
    """
    A URM of the published layout as it is in this package, without anything being written.

    Args:
        source, revision: as in [`convert_published`].

    Returns:
        `tuple[URMConfig, PublishedTensors]`: its config, and what reads its tensors.

    Raises:
        ValueError, FileNotFoundError: as in [`convert_published`].
    """
    checkpoint = Checkpoint(source, revision)
    with explain_damage(f"config.json of {source}"):
        config = _config_here(checkpoint, None, None)
    return config, lambda: _read_published(checkpoint, config)


def _read_published(checkpoint: Checkpoint, config: URMConfig) -> Iterator[tuple[str, Tensor]]:
    _index_published(checkpoint, config)
    for key, layout in _layout_here(config).items():
        tensor = checkpoint.tensors.get(key, layout) if key != VALUE else layout
        yield key, _tensor_here(checkpoint, key, tensor)


def convert_sglang(
    source: str | Path,
    output_dir: str | Path,
    *,
    revision: str | None = None,
    pad_gate: bool = False,
    max_shard_size: int | str = "5GB",
    token: str | bool | None = None,
    local_files_only: bool = False,
    progress: bool = False,
) -> Conversion:
    """
    Writes a URM in the published layout, which SGLang serves as `LlamaForSequenceClassificationWithNormal_Weights`.

    The backbone keeps its dtype. Value head and gate take it too where it has all their values, else float16, else
    they stay float32: nothing is rounded here. SGLang itself rounds the gate to float16 and the value head to its
    `--dtype`, and answers with the reward alone.

    Args:
        source: a folder or Hub repository of a URM.
        pad_gate (`bool`): writes a gate narrower than H with zeros in the rest, and fixed `reward_weights` as a gate
            of zeros whose last bias they are. No reward changes.
        output_dir, revision, max_shard_size, token, local_files_only, progress: as in [`convert_published`].

    Raises:
        ValueError: SGLang cannot express the model, for the reasons named; or its files are incomplete.
        FileExistsError: `output_dir` exists and is not empty. FileNotFoundError: no such checkpoint.
    """
    with appears_whole(output_dir) as folder:
        checkpoint = Checkpoint(source, revision, token, local_files_only)
        if checkpoint.config.get("model_type") != URMConfig.model_type:
            refuse_published_layout(checkpoint.config.get("architectures"), checkpoint.name)
            found = checkpoint.config.get("model_type")
            raise ValueError(f"{source} is not a URM: its `model_type` is {found!r}. Of an ensemble, name one member.")
        with explain_damage(f"config.json of {source}"):
            config = URMConfig.from_pretrained(checkpoint.folder)
        checkpoint.index()
        checkpoint.check_layout({key: tensor.shape for key, tensor in _layout_here(config).items()}, "a URM")
        notes = check_expressible(checkpoint, config, pad_gate)
        head = published_head(checkpoint, config)
        there = {key: tensor for key, tensor in checkpoint.tensors.items() if not key.startswith("score.")}
        there |= {key: tensor.to("meta") for key, tensor in head.items()}

        def read(key: str) -> Tensor:
            return head[key] if key in head else checkpoint.tensor(key)

        write_shards(folder, there, read, max_shard_size, progress)
        dtypes = {"backbone": there[EMBEDDING].dtype, "value head": there[SCORE].dtype}
        dtypes["gate"] = there["weights.fc.0.weight"].dtype
        write_json(folder / "config.json", build_published_config(config, dtypes["backbone"]))
        checkpoint.copy_companions(folder)
    return Conversion(checkpoint.name, checkpoint.revision, config.attributes, _count(there), dtypes, notes)


def _count(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for key, tensor in tensors.items() if key not in FEATURES + LABELS)


def _layout_here(config: URMConfig) -> dict[str, Tensor]:
    """Names and shapes of a URM's tensors, on the meta device."""
    with torch.device("meta"):
        return URMForRewardModeling(config).state_dict()


def _index_published(checkpoint: Checkpoint, config: URMConfig) -> list[str]:
    """Reads the names of its tensors, which must be those of the layout; returns what was left out."""
    checkpoint.index()
    _check_gate(checkpoint, config)
    derived = [key for key in checkpoint.tensors if key.endswith("rotary_emb.inv_freq")]
    for key in derived:  # in files of transformers before 4.32; computed from the config ever since
        del checkpoint.tensors[key]
    here = _layout_here(config)
    shapes = {published_name(key): here[key].shape for key in here if key not in FEATURES + LABELS}
    checkpoint.check_layout(shapes, "a URM of the published layout")
    return [f"left out {len(derived)} tensors `rotary_emb.inv_freq`, which the config determines"] if derived else []


def _check_gate(checkpoint: Checkpoint, config: URMConfig):
    """A ValueError unless attributes are weighed by one of the two: a gate in the files, or weights that are given."""
    gate = sorted(GATE.values() & checkpoint.tensors.keys())
    if config.reward_weights is None and not gate:
        example = "[0.3, 0.74, 0.46, 0.47, -0.33]"
        raise ValueError(
            f"{checkpoint.name} has no gate (no `weights.fc.*`): give the weights of its attributes, "
            f"{', '.join(config.attributes)}, in `reward_weights`, as its model card has them; such as {example}."
        )
    if config.reward_weights is not None and gate:
        raise ValueError(
            f"{checkpoint.name} has a gate ({gate[0]}, ...), which weighs its attributes: leave out `reward_weights`."
        )


def _tensor_here(checkpoint: Checkpoint, key: str, layout: Tensor) -> Tensor:
    """A tensor of ours from the published checkpoint; statistics, which it has not, are the identity."""
    if key in FEATURES + LABELS:
        return torch.full(layout.shape, 0.0 if key.endswith("_mean") else 1.0)
    tensor = checkpoint.tensor(published_name(key)).to(layout.dtype)
    return means_first(tensor) if key == VALUE else tensor


def _config_here(
    checkpoint: Checkpoint, attributes: Sequence[str] | None, reward_weights: Sequence[float] | None
) -> URMConfig:
    """Our config for one of the published layout; a ValueError names what is wrong with it."""
    found, name = checkpoint.config, checkpoint.name
    if found.get("model_type") == URMConfig.model_type:
        raise ValueError(f"{name} has this package's layout already.")
    architectures = found.get("architectures")
    # without a gate it is nothing but a classifier, and is called so under several names; that its labels are pairs
    # is then what the caller says by giving weights
    known = PUBLISHED_ARCHITECTURE if reward_weights is None else CLASSIFIER
    if not any(name.startswith(known) for name in architectures or []):
        raise ValueError(f"{name} has not the published layout: `architectures` is {architectures}.")
    if found.get("model_type") != "llama":
        raise ValueError(f"{name} has the `model_type` {found.get('model_type')!r}; the published layout is a Llama.")
    labels = LlamaConfig.from_dict(found).num_labels
    if labels < 2 or labels % 2:
        raise ValueError(f"{name} has {labels} labels; the published layout has two for each attribute.")
    if attributes is None:
        attributes = _attributes(found, labels // 2)
    if isinstance(attributes, str) or len(attributes) != labels // 2:
        raise ValueError(
            f"{name} has {labels} labels, that is {labels // 2} attributes, but `attributes` is {attributes!r}."
        )
    backbone = LlamaConfig.from_dict({key: value for key, value in found.items() if key not in OUTER})
    return URMConfig(
        backbone_config=backbone,
        attributes=list(attributes),
        reward_weights=None if reward_weights is None else list(reward_weights),
        log_std_bounds=None,
        architectures=[URMForRewardModeling.__name__],
    )


def _attributes(config: dict, n: int) -> list[str]:
    names = list((config.get("id2label") or {}).values())
    if len(names) == 2 * n and all(name.endswith(LABEL_NAMES[row % 2]) for row, name in enumerate(names)):
        return [name.removesuffix(LABEL_NAMES[0]) for name in names[::2]]
    if n != len(HELPSTEER2_ATTRIBUTES):
        raise ValueError(f"`attributes` is missing: name the {n} attributes, in the order of the labels.")
    return HELPSTEER2_ATTRIBUTES
