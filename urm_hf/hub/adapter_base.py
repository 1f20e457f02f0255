"""The base of a LoRA adapter: a repository at one commit, without which the adapter means nothing."""

from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from urm_hf.checkpoints.files import write_json
from urm_hf.hub.errors import HubError, one_line
from urm_hf.hub.folder import COMMIT
from urm_hf.modeling.members_urm import ADAPTER_CONFIG


def is_pinned(adapter: dict[str, Any]) -> bool:
    return bool(COMMIT.fullmatch(adapter.get("revision") or ""))


def pin_base(folder: Path, adapter: dict[str, Any], token: str | None = None) -> list[str]:
    """
    Writes the commit that an adapter's base is at now into its adapter_config.json, unless one is named there.

    Returns:
        What a user should know of it.

    Raises:
        HubError: the base cannot be had.
    """
    if is_pinned(adapter):
        return []
    base = adapter["base_model_name_or_path"]
    try:
        commit = HfApi(token=token).model_info(base, revision=adapter.get("revision")).sha
    except Exception as error:  # of the client or of its HTTP library
        raise HubError(f"the base of {folder} cannot be looked up: {one_line(error)}") from error
    adapter["revision"] = commit
    write_json(folder / ADAPTER_CONFIG, adapter)
    return [f"{ADAPTER_CONFIG}: the base {base} is pinned to commit {commit}"]
