"""
An ensemble whose members are folders here, made ready for the Hub.

Heads that were trained on one frozen backbone go into one small repository with the ensemble, and name the backbone;
whole models and adapters get a repository each, which the ensemble then names by commit.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi

from urm_hf.checkpoints.files import explain_full_disk, read_json, weight_files, write_json
from urm_hf.hub.errors import HubError, one_line
from urm_hf.hub.folder import CARD, COMMIT, HUB_ID, KEPT_RESULTS, PLOT, SCORES
from urm_hf.modeling.base_urm import BASE_WEIGHTS
from urm_hf.modeling.configuration_urm_ensemble import MOST_MEMBERS, URMEnsembleConfig
from urm_hf.modeling.member_names_urm import absolute_name

ENSEMBLE = "ensemble"  # the folder that `urm train ensemble` writes beside the members
WRITTEN = (CARD, SCORES, PLOT, KEPT_RESULTS)  # by a push, into the folder


def find_ensemble(path: Path) -> Path:
    """The folder of the ensemble, of one that `urm train ensemble` wrote; any other as it is."""
    inside = path / ENSEMBLE
    return inside if (inside / "config.json").is_file() and not (path / "config.json").is_file() else path


def list_local_members(path: Path) -> list[Path | None]:
    """The folders of an ensemble's members, None for those on the Hub; empty unless it has any."""
    config = read_json(path / "config.json")
    if config.get("model_type") != URMEnsembleConfig.model_type:
        return []
    names = config.get("members") or []
    if isinstance(names, list):  # told here, before any member is looked at; other faults are told of the whole folder
        if len(names) > MOST_MEMBERS:
            raise ValueError(f"{path} names {len(names)} members; at most {MOST_MEMBERS} are taken.")
        if len(set(map(str, names))) < len(names):
            raise ValueError(f"{path} names a member twice, of {names}: the members of an ensemble must differ.")
    found = [Path(absolute_name(str(name), path)) for name in config.get("members") or []]
    local = [folder if folder.is_dir() else None for folder in found]
    return local if any(local) else []


def read_base(member: Path | None) -> dict[str, Any] | None:
    """The backbone that a member names, if it holds heads alone."""
    return None if member is None else read_json(member / "config.json").get(BASE_WEIGHTS)


@contextmanager
def copy_ensemble(path: Path) -> Iterator[Path]:
    """A copy of an ensemble's folder, without others in it, from which what a push writes is taken back at the end."""
    with TemporaryDirectory(prefix="urm-push-") as temporary, explain_full_disk(temporary):
        copy = Path(temporary) / path.name
        copy.mkdir()
        for file in path.iterdir():
            if file.is_file():
                shutil.copyfile(file, copy / file.name)
        yield copy
        for name in WRITTEN:
            if (copy / name).is_file():
                shutil.copyfile(copy / name, path / name)


def add_heads(copy: Path, members: Sequence[Path], base_model: str | None, token: str | None):
    """Puts the heads of all members into the ensemble's folder, on a backbone that others find."""
    names = [f"member-{number}" for number in range(len(members))]
    for name, member in zip(names, members, strict=True):
        (copy / name).mkdir()
        for file in [member / "config.json", *weight_files(str(member), member)]:
            shutil.copyfile(file, copy / name / file.name)
        pin_backbone(copy / name, base_model, token)
    name_members(copy, [f"./{name}" for name in names], [None] * len(names))


def name_members(copy: Path, members: Sequence[str], revisions: Sequence[str | None]):
    """Writes the members' names into an ensemble's config."""
    config = read_json(copy / "config.json")
    write_json(copy / "config.json", config | {"members": list(members), "revisions": list(revisions)})


def pin_backbone(folder: Path, base_model: str | None, token: str | None) -> list[str]:
    """
    Names in the config of heads alone a backbone on the Hub, at one commit.

    Args:
        folder (`Path`): of the heads. base_model (`str`, *optional*): the repository; by default the one that the
            config names. That it has the weights which the heads were trained on is looked at where it is loaded.
        token (`str`, *optional*): of an account that may read it.

    Returns:
        `list[str]`: what a user should know of it.

    Raises:
        HubError: the repository cannot be looked up.
    """
    config = read_json(folder / "config.json")
    base = config.get(BASE_WEIGHTS)
    if not isinstance(base, dict):
        return []
    on_hub = HUB_ID.fullmatch(str(base.get("name"))) and not Path(str(base.get("name"))).is_dir()
    if on_hub and COMMIT.fullmatch(base.get("commit") or ""):
        return []
    name = base["name"] if on_hub else base_model
    if name is None:
        return []  # `read_folder` tells what is missing
    try:
        commit = HfApi(token=token).model_info(name).sha
    except Exception as error:  # of the client or of its HTTP library
        raise HubError(f"the backbone {name} cannot be looked up: {one_line(error)}") from error
    write_json(folder / "config.json", config | {BASE_WEIGHTS: base | {"name": name, "commit": commit}})
    return [f"config.json: the backbone is {name} at commit {commit}"]
