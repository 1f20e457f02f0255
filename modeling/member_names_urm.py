"""What the members of an ensemble are called in its config, and where that leads. This file travels with ensembles."""

import os
from dataclasses import replace
from typing import Any

from transformers.utils.hub import extract_commit_hash

from .hub_place_urm import HubPlace


def split_name(name: str, hub: HubPlace) -> tuple[str, HubPlace]:
    """
    The repository that a member is in, and the place of it there.

    Args:
        name (`str`): a folder, a repository, or a folder of one, "org/name/folder".
        hub (`HubPlace`): access to the Hub.
    """
    parts = name.split("/")
    if os.path.isdir(name) or os.path.isabs(name) or name.startswith((".", "~")) or len(parts) < 3:
        return name, hub
    return "/".join(parts[:2]), replace(hub, subfolder="/".join(parts[2:]))


def resolve_members(config: Any, folder: str, place: HubPlace) -> None:
    """
    Has an ensemble's config name its members as they are found from anywhere.

    Args:
        config (`URMEnsembleConfig`): of a saved ensemble; is changed. folder (`str`): where it was read, a folder or a
            repository. place (`HubPlace`): the state of that repository, at which members inside it are read too.
    """
    inside = [name.startswith(".") for name in config.members]
    config.members = [absolute_name(name, folder) for name in config.members]
    if any(inside) and not os.path.isdir(folder):
        commit = extract_commit_hash(place.find_file(folder, "config.json"), None) or place.revision
        pins = zip(config.revisions, inside, strict=True)
        config.revisions = [commit if is_inside else revision for revision, is_inside in pins]


def absolute_name(name: str, folder: str | os.PathLike) -> str:
    """A member's name as it is found from anywhere: "./..." and "../..." are relative to the ensemble's folder."""
    place = os.path.realpath(folder) if os.path.islink(folder) else folder  # its ".." is beside what it links to
    return os.path.normpath(os.path.join(place, name)) if name.startswith(".") else name


def name_beside(name: str, folder: str | os.PathLike) -> str:
    """A member's name for an ensemble saved in `folder`: relative if it is inside or beside, so that both can move."""
    if not os.path.isdir(name):
        return name
    relative = os.path.relpath(name, folder)
    if relative.startswith(os.path.join("..", "..")):
        return os.path.abspath(name)
    return relative if relative.startswith("..") else os.path.join(".", relative)
