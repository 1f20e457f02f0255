"""What the work in a folder depends on, kept beside it, so that work of two jobs is never mixed."""

import json
from pathlib import Path
from typing import Any

from urm_hf.data.outputs import json_text, write_whole


def keep_manifest(file: Path, manifest: dict[str, Any], begun: bool, what: str):
    """
    Writes what the work in a folder depends on, or checks that it is still the same.

    Args:
        begun: whether there is any work (`what`, for the error) that another manifest would spoil.

    Raises:
        ValueError: the manifest is another one; what differs is named.
    """
    before = read_manifest_file(file)
    if begun:
        refuse_mixing(file.parent, before, manifest, what)
    if before != manifest:
        write_whole(file, json_text(manifest, indent=1).encode())


def refuse_mixing(folder: Path, before: dict[str, Any], manifest: dict[str, Any], what: str):
    """
    Raises:
        ValueError: two manifests differ; in what is named.
    """
    changed = [name for name in {**before, **manifest} if before.get(name) != manifest.get(name)]
    if changed:
        told = "; ".join(f"{name} was {before.get(name)}, is {manifest.get(name)}" for name in changed)
        raise ValueError(
            f"{folder} holds {what} of another job, which must not be mixed ({told}). Go on with the old settings, "
            "delete the folder, or write to another file."
        )


def read_manifest_file(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        manifest = json.loads(file.read_bytes())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ValueError(f"{file} is damaged, so that nobody knows what lies beside it is of: delete {file.parent}.")
    return manifest
