"""
Where the members of an ensemble come from: whole checkpoints, or LoRA adapters of one base, on the Hub or in folders.
This file travels with ensemble repositories.

A member can be asked for its config, its head and its backbone's weights without being loaded.
"""

import copy
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers.utils.hub import extract_commit_hash

from .backbone_urm import find_shard, read_config, read_weight_map
from .checks_urm import check_adapter_config, check_folder, explain_damage, load_alone, read_json_object
from .configuration_urm import POSTERIOR_FIELDS, URMConfig, refuse_published_layout
from .fingerprint_urm import BASE_RECORD, check_record, compute_fingerprint, name_base
from .head_urm import URMHead
from .hub_place_urm import HubPlace
from .member_names_urm import split_name
from .modeling_urm import URMForRewardModeling

BACKBONE, HEAD = "model.", "score."
ADAPTER_PREFIX = "base_model.model."
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@dataclass
class MemberSource:
    """
    A member that is not loaded yet.

    Args:
        revision: commit, branch or tag; becomes the commit. Of a folder it means nothing.
        name: a folder, a repository, or a folder of a repository, "org/name/folder".
        hub (`HubPlace`, *optional*): token, cache_dir, ... for finding its files; its revision is not read.
    """

    name: str
    revision: str | None = None
    hub: HubPlace = HubPlace()

    def __post_init__(self):
        """Everything is read from one commit, also if somebody pushes meanwhile."""
        if not isinstance(self.name, (str, os.PathLike)):
            raise ValueError(f"A member must be a folder or a repository, got {self.name!r}.")
        self.name, self.hub = split_name(self.name, self.hub)
        if os.path.isdir(self.name):
            check_folder(self.name)
        known = self.file(ADAPTER_CONFIG) or self.file("config.json")
        self.revision = extract_commit_hash(known, None) or self.revision

    @property
    def place(self) -> HubPlace:
        """Where its files are, at its commit."""
        return self.hub.at(self.revision)

    def file(self, name: str) -> str | None:
        """The path of one of the member's files, downloaded if need be; None if it has no such file."""
        return self.place.find_file(self.name, name)

    @cached_property
    def adapter(self) -> dict[str, Any] | None:
        """The member's `adapter_config.json`, if it is a LoRA adapter."""
        path = self.file(ADAPTER_CONFIG)
        if path is None:
            return None
        adapter = read_json_object(path)
        check_adapter_config(adapter, self.name)
        return adapter

    def base(self) -> "MemberSource | None":
        """The model that the member's adapter was trained on, at one commit; None if the member is no adapter."""
        adapter = self.adapter
        if adapter is None:
            return None
        base = adapter.get("base_model_name_or_path")
        if not isinstance(base, str) or not base:
            raise ValueError(f"{self.name} is an adapter whose {ADAPTER_CONFIG} has no `base_model_name_or_path`.")
        return MemberSource(base, adapter.get("revision"), self.hub.of_another())

    def base_record(self) -> Any:
        """What the config.json beside an adapter says of the weights that it was trained on, if it does."""
        return None if self.adapter is None else read_config(self.name, self.place).get(BASE_RECORD)

    def check_bases(self):
        """
        Refuses an adapter on an adapter on ... on itself.

        Raises:
            ValueError: names the circle.
        """
        source: MemberSource | None = self
        names: list[str] = []
        while source is not None:
            place = os.path.realpath(source.name) if os.path.isdir(source.name) else source.name
            if place in names:
                circle = " is an adapter of ".join([*names, place])
                raise ValueError(f"{circle}: such a circle of bases has no weights to begin with.")
            names.append(place)
            source = source.base()

    def config(self) -> URMConfig:
        """The URM's configuration; an adapter's own, or that of its base."""
        name, place = self.name, self.place
        if self.file("config.json") is None and (base := self.base()) is not None:
            name, place = base.name, base.place
        found = read_config(name, place)
        if not found:
            raise FileNotFoundError(f"Member {self.name}: {name} has no config.json.")
        refuse_published_layout(found.get("architectures"), name)
        if found.get("model_type") != URMConfig.model_type:
            raise ValueError(f"Member {self.name}: {name} is of type {found.get('model_type')!r}, not a URM.")
        with explain_damage(f"config.json of {name}"):
            return URMConfig.from_pretrained(name, **place.kwargs())  # this file's class, not a repository's

    def weight_files(self) -> dict[str, str]:
        """Path of the safetensors file of each tensor, by the tensor's name in a URM."""
        index = None if self.adapter else self.file("model.safetensors.index.json")
        if index is not None:
            shards = read_weight_map(index)
            paths = {shard: find_shard(self.name, shard, self.place) for shard in set(shards.values())}
            return {key: paths[shard] for key, shard in shards.items()}
        name = ADAPTER_WEIGHTS if self.adapter else "model.safetensors"
        path = self.file(name)
        if path is None:
            raise ValueError(f"Member {self.name} has no {name}; other formats are not read.")
        with explain_damage(path), safe_open(path, framework="pt") as file:
            return dict.fromkeys(file.keys(), path)

    def head(self) -> dict[str, Tensor]:
        """The head's tensors, by their names in [`URMHead`]."""
        prefix = ADAPTER_PREFIX + HEAD if self.adapter else HEAD
        return {key.removeprefix(prefix): tensor for key, tensor in read_tensors(self.weight_files(), prefix)}

    def load(self, **kwargs) -> URMForRewardModeling:
        """The member by itself, in eval mode."""
        if self.adapter is not None:
            return load_adapters([self], **kwargs).get_base_model()
        try:
            return URMForRewardModeling.from_pretrained(self.name, **self.place.kwargs(), **kwargs)
        except ValueError as error:
            raise ValueError(f"Member {self.name}: {error}") from error


def read_tensors(files: dict[str, str], prefix: str) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the tensors whose names begin with `prefix`; one is in memory at a time."""
    with ExitStack() as stack:
        opened = {}
        for path in sorted(set(files.values())):
            with explain_damage(path):
                opened[path] = stack.enter_context(safe_open(path, framework="pt"))
        for key in sorted(key for key in files if key.startswith(prefix)):
            with explain_damage(files[key]):
                tensor = opened[files[key]].get_tensor(key)
            yield key, tensor


def load_on_one_backbone(sources: Sequence[MemberSource], **kwargs) -> list[URMForRewardModeling]:
    """
    Members that were trained on one frozen backbone: it is loaded once, and only heads are loaded for the rest.

    Raises:
        ValueError: the backbones differ; the first tensor that does is named.
    """
    for source in sources[1:]:
        check_equal_backbones(sources[0], source)
    first = sources[0].load(**kwargs)
    members = [first]
    for source in sources[1:]:
        config = source.config()
        with torch.device("meta"):
            member = URMForRewardModeling(config)
        member.model, member.score = first.model, URMHead(config)
        with explain_damage(f"The head of {source.name}"):
            member.score.load_state_dict(source.head())
        member.score.to(first.score.feature_mean.device)
        member.config.name_or_path = source.name
        member.refer_to_base(config.base_weights)
        members.append(member.eval())
    return members


def check_equal_backbones(a: MemberSource, b: MemberSource):
    """A ValueError, which names the first tensor that differs, unless two members have one backbone."""
    records = [source.config().base_weights for source in (a, b)]
    if records[0] is not None or records[1] is not None:  # heads alone: what they name tells whether it is the same
        names = [name_base(record["name"], record["commit"]) if record else "its own" for record in records]
        if records[0] is None or records[1] is None or records[0]["fingerprint"] != records[1]["fingerprint"]:
            raise ValueError(
                f'`strategy="shared"` needs one backbone, but that of {a.name} is {names[0]}, and that of {b.name} is '
                f'{names[1]}. Use "resident", or "sequential" to hold one member at a time.'
            )
        return
    ours, theirs = a.weight_files(), b.weight_files()
    backbone = {key for key in ours if key.startswith(BACKBONE)}
    unlike = sorted(backbone ^ {key for key in theirs if key.startswith(BACKBONE)})
    if not unlike:
        pairs = zip(read_tensors(ours, BACKBONE), read_tensors(theirs, BACKBONE), strict=True)
        unlike = [key for (key, x), (_, y) in pairs if x.dtype != y.dtype or not torch.equal(x, y)]
    if unlike:
        raise ValueError(
            f'`strategy="shared"` needs one backbone, but {a.name} and {b.name} differ in {unlike[0]} and '
            f'{len(unlike) - 1} more tensors. Use "resident", or "sequential" to hold one member at a time.'
        )


def load_adapters(sources: Sequence[MemberSource], **kwargs) -> Any:
    """
    Their base with every adapter on it as a `peft.PeftModel`; `switch_adapter` chooses one, head included.

    Raises:
        ValueError: not all are adapters, or they are of different bases, or one does not fit its base.
        ImportError: peft is not installed.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise ImportError(f"Member {sources[0].name} is an adapter: `pip install peft` to load it.") from error
    find_common_base(sources)
    files = [source.weight_files() for source in sources]  # safetensors or nothing: peft would go on to load a pickle
    model = _load_base(sources[0], **kwargs)
    adapted: Any = None
    for number, source in enumerate(sources):
        name, folder = _adapter_name(number), os.path.dirname(next(iter(files[number].values())))
        with load_alone(f"The adapter {source.name}"):
            _take_records(model, source.config())  # its head is made after the base's
            try:
                if adapted is None:
                    adapted = PeftModel.from_pretrained(model, folder, name)
                else:
                    adapted.load_adapter(folder, name)
            except KeyError as error:
                raise ValueError(f"The adapter {source.name} lacks {error}.") from error
        expected = get_peft_model_state_dict(adapted, adapter_name=name, save_embedding_layers=False)
        unlike = sorted(expected.keys() ^ files[number].keys())
        if unlike:  # peft would go on with what it drew at random
            raise ValueError(f"The adapter {source.name} does not fit its base: missing or unexpected {unlike[:5]}.")
    _take_records(model, sources[0].config())
    switch_adapter(model, 0)
    return adapted.requires_grad_(False).eval()


def find_common_base(sources: Sequence[MemberSource]) -> MemberSource:
    """
    The one model that all these adapters were trained on.

    Raises:
        ValueError: not all are adapters, they are of different bases, or the base has other weights than one says.
    """
    for source in sources:
        source.check_bases()
    bases = [source.base() for source in sources]
    places = ["itself" if base is None else name_base(base.name, base.revision) for base in bases]
    if len(set(places)) > 1:
        listed = ", ".join(f"{source.name} on {place}" for source, place in zip(sources, places, strict=True))
        raise ValueError(f"Members do not share a base: {listed}.")
    _check_records(sources, places[0])
    if bases[0] is None:
        raise ValueError(f"{sources[0].name} is no adapter.")
    return bases[0]


def _check_records(sources: Sequence[MemberSource], place: str):
    """Refuses a base of the right shape with other weights, which nothing else would tell."""
    records = [source.base_record() for source in sources]
    base = sources[0].base()
    if base is None or all(record is None for record in records):
        return
    fingerprint = compute_fingerprint(base.weight_files())
    for source, record in zip(sources, records, strict=True):
        check_record(record, fingerprint, source.name, place)


def _take_records(model: URMForRewardModeling, own: URMConfig):
    """
    The base's config says how the base was trained; statistics of labels and the rest are those of the adapter. So is
    the form of its posterior, which peft takes from the base's head.
    """
    head = getattr(model.score, "original_module", model.score)
    head.expect_posterior(own.posterior_rank, own.posterior_correlated)
    for config in (head.config, model.config):  # one, until adapters are merged
        for name in ("label_means", "label_stds", "attribute_scales", "attribute_loss", "training", *POSTERIOR_FIELDS):
            setattr(config, name, copy.deepcopy(getattr(own, name)))


def _load_base(source: MemberSource, **kwargs) -> URMForRewardModeling:
    """
    The URM that an adapter was trained on, with the base's own adapter, if it is one, merged into it; on a causal LM,
    with a fresh head, which the adapter's replaces.
    """
    base = source.base()
    if base is None:
        raise ValueError(f"{source.name} is no adapter.")
    place = base.place.kwargs()
    if read_config(base.name, base.place).get("model_type") == URMConfig.model_type:
        if base.adapter is not None:
            return load_adapters([base], **kwargs).merge_and_unload(safe_merge=True)
        return URMForRewardModeling.from_pretrained(base.name, **place, **kwargs)
    config = source.config()
    fields = ("attributes", "gating_hidden_size", "reward_weights", "attribute_scales", "log_std_bounds")
    head = {name: getattr(config, name) for name in fields}
    return URMForRewardModeling.from_backbone(base.name, **head, **place, **kwargs)


def _adapter_name(number: int) -> str:
    """Not the number alone: it would be taken for that of a layer of the gate."""
    return f"member_{number}"


class MembersLock:
    """
    Held while one member is there for all: its adapter is the active one in the layers, or it alone is in memory. A
    copy of an ensemble, or what is read from a pickle of it, has members of its own, and so gets a lock of its own.
    """

    def __init__(self):
        self._lock = threading.RLock()

    def __enter__(self):
        self._lock.acquire()

    def __exit__(self, *error):
        self._lock.release()

    def __reduce__(self):
        return MembersLock, ()


def switch_adapter(model: nn.Module, number: int):
    """Makes adapter `number` of `load_adapters` the active one, in every layer and in the head."""
    module: Any
    for module in model.modules():
        if hasattr(module, "set_adapter") and hasattr(module, "active_adapter"):
            module.set_adapter(_adapter_name(number))
