"""The models of a job, none of them loaded: what tells one from another, and whether a folder changes meanwhile."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from urm_hf.checkpoints.trained_gate import has_untrained_gate
from urm_hf.data.source import digest_of
from urm_hf.modeling import URMEnsembleConfig
from urm_hf.modeling.backbone_urm import read_config
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.member_names_urm import resolve_members
from urm_hf.modeling.members_urm import MemberSource

HASHED = (".json", ".safetensors", ".jinja", ".model", ".txt", ".py")  # files that a score can depend on
Revisions = Sequence[str | None] | None
Status = dict[str, tuple[int, int, int]]


class ModelChanged(ValueError):
    """A model's folder is not what it was when the job began."""


class WatchedModels:
    """
    The files of models in folders, compared with what they were before the models were loaded.

    An ensemble may load its members again for every part. A model of the Hub is at one commit and is not watched.

    Args:
        sources (`Sequence[MemberSource]`): the models.

    Attributes:
        identities (`list[str]`, *optional*): what [`identify`] gave for each of the models that were loaded.
    """

    identities: list[str] | None = None

    def __init__(self, sources: Sequence[MemberSource]):
        self.sources = list(sources)
        self.folders = [folder for source in self.sources for folder in _list_folders(source)]
        self._status = {folder: _read_status(folder) for folder in self.folders}

    def check(self, identities: Sequence[str] | None = None):
        """
        Size, time and place of each file, and the contents if these are others.

        Args:
            identities (`Sequence[str]`, *optional*): what [`identify`] gave for each of the models. By default those
                that are known; as long as none are, any change is one.

        Raises:
            ModelChanged: the contents are others.
        """
        status = {folder: _read_status(folder) for folder in self.folders}
        changed = [str(folder) for folder in self.folders if status[folder] != self._status[folder]]
        if not changed:
            return
        known = self.identities if identities is None else list(identities)
        try:
            same = known is not None and known == [identify(source) for source in self.sources]
        except (OSError, ValueError):
            same = False
        if not same:
            raise ModelChanged(
                f"{', '.join(changed)}: the model was changed, replaced or removed while it was scored with. Scores "
                "of two models must not be mixed: bring back what it was and run the same command again, or begin "
                "anew with another output."
            )
        self._status = status


def identify(source: MemberSource) -> str:
    """A repository at its commit, or a folder with a hash of what a score can depend on; and an adapter's base."""
    folder, state = Path(source.name), source.revision
    inside = "" if source.hub.subfolder is None else f"/{source.hub.subfolder}"
    if folder.is_dir():
        state = digest_of(_list_files(folder), named=True)
    base = source.base()
    told = f"{source.name}{inside}@{state}"
    return told if base is None else f"{told} on {identify(base)}"


def read_ensemble_config(
    models: Sequence[str], revisions: Revisions, loading: dict[str, Any], settings: dict[str, Any]
) -> URMEnsembleConfig | None:
    """
    The configuration with which an ensemble will be loaded; None of a single model.

    Args:
        models (`Sequence[str]`): names, of which several make an ensemble. revisions (*optional*): one for each.
        loading (`dict`): arguments of `from_pretrained`. settings (`dict`): those that only ensembles have.
    """
    if len(models) > 1:
        names = [os.path.abspath(name) if os.path.isdir(name) else name for name in models]
        return URMEnsembleConfig(members=names, revisions=list(revisions) if revisions else None, **settings)
    place = HubPlace.read(loading).at(revisions[0] if revisions else None)
    if read_config(models[0], place).get("model_type") != URMEnsembleConfig.model_type:
        return None
    saved = URMEnsembleConfig.from_pretrained(models[0], **place.kwargs())
    config = URMEnsembleConfig.from_dict(saved.to_dict() | settings)
    resolve_members(config, models[0], place)
    return config


def read_sources(
    models: Sequence[str], revisions: Revisions, loading: dict[str, Any], config: URMEnsembleConfig | None
) -> list[MemberSource]:
    """Where the models of a job come from, in their order: the members of an ensemble, or the one model."""
    place = HubPlace.read(loading)
    if config is None:
        return [MemberSource(models[0], revisions[0] if revisions else None, place)]
    return [MemberSource(*pin, place.of_another()) for pin in zip(config.members, config.revisions, strict=True)]


def read_training(sources: Sequence[MemberSource]) -> list[Any]:
    """What the config of each model says of its training; None of one that says nothing."""
    return [read_config(source.name, source.place).get("training") for source in sources]


def count_untrained_gates(sources: Sequence[MemberSource]) -> int:
    """How many of the models have a gate that was never trained."""
    return sum(has_untrained_gate(read_config(source.name, source.place)) for source in sources)


def digest_heads(sources: Sequence[MemberSource]) -> list[str] | None:
    """
    A digest of each model's head, in their order: it tells models of one name apart, and is read in no time where a
    digest of all weights takes minutes. None where a model has no head under the name that ours have.
    """
    try:
        heads = [source.head() for source in sources]
    except (ValueError, OSError):
        return None
    return [_digest_tensors(head) for head in heads] if all(heads) else None


def _digest_tensors(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _list_folders(source: MemberSource) -> Iterator[Path]:
    """Those of a model and of what it is an adapter of, as far as they are not of the Hub."""
    if os.path.isdir(source.name):
        yield Path(source.name)
    base = source.base()
    if base is not None:
        yield from _list_folders(base)


def _list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix in HASHED)


def _read_status(folder: Path) -> Status | None:
    """None if the folder is gone, or is just being replaced."""
    try:
        found = {path.name: path.stat() for path in _list_files(folder)}
    except OSError:
        return None
    return {name: (status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found.items()}
