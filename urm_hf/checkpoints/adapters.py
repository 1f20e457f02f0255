"""LoRA adapters of URMs on disk: complete enough to rebuild the URM, merged to train a gate on, or with a new gate."""

import logging
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers.utils import find_adapter_config_file

from urm_hf.checkpoints.files import read_json, write_json
from urm_hf.modeling import URMConfig, URMForRewardModeling
from urm_hf.modeling.card_urm import CARD_BLANK
from urm_hf.modeling.fingerprint_urm import BASE_RECORD, compute_fingerprint
from urm_hf.modeling.hub_place_urm import HubPlace, check_name
from urm_hf.modeling.members_urm import (
    ADAPTER_CONFIG,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    HEAD,
    MemberSource,
    load_adapters,
    read_tensors,
)
from urm_hf.moved import renamed

logger = logging.getLogger(__name__)

POSTERIOR = f"{ADAPTER_PREFIX}{HEAD}posterior_"


def complete_adapter(folder: str | Path, config: URMConfig, **hub: Any):
    """
    Writes the URM's config (attributes, label statistics) beside an adapter, and the name of its base into the
    adapter's own, where peft leaves it out because the URM was built around a causal LM and never loaded by name.
    The config says also which weights the base has (name, commit, fingerprint), so that the adapter is not put on
    others of the same shape. The empty form that peft writes as a model card is removed.

    Args:
        folder (`str` or `Path`): where peft saved the adapter.
        config (`URMConfig`): of the URM that was trained.
        hub: for finding the base (`token`, `cache_dir`, ...).
    """
    config.save_pretrained(folder)
    card = Path(folder) / "README.md"
    if card.is_file() and CARD_BLANK in card.read_text(encoding="utf-8"):
        card.unlink()
    path = Path(folder) / ADAPTER_CONFIG
    adapter = read_json(path)
    if not adapter["base_model_name_or_path"]:
        adapter["base_model_name_or_path"] = config.name_or_path
    if os.path.isdir(adapter["base_model_name_or_path"]):  # to be found from any working directory
        adapter["base_model_name_or_path"] = os.path.abspath(adapter["base_model_name_or_path"])
    write_json(path, adapter)
    _write_record(folder, _describe_base(MemberSource(str(folder), hub=HubPlace.read(hub))))


def _describe_base(source: MemberSource) -> dict[str, Any] | None:
    """Name, commit and fingerprint of the base of an adapter; None if it cannot be read."""
    try:
        base = source.base()
        if base is None:
            return None
        commit = None if os.path.isdir(base.name) else base.revision
        return {"name": base.name, "commit": commit, "fingerprint": compute_fingerprint(base.weight_files())}
    except (OSError, ValueError) as error:
        # a run of many hours must not fail at its end because the Hub is away: the adapter is whole without it
        logger.warning(f"The base of {source.name} is not recorded in its config.json: {error}")
        return None


def _write_record(folder: str | Path, record: Any):
    if record is not None:
        path = Path(folder) / "config.json"
        write_json(path, read_json(path) | {BASE_RECORD: record})


def is_adapter(name: str | Path, **hub: Any) -> bool:
    """Whether a folder or repository holds an adapter rather than a model. `hub`: `revision`, `token`, ..."""
    check_name(str(name))
    return find_adapter_config_file(str(name), **hub) is not None


def load_adapter(adapter: str | Path, revision: str | None = None, **kwargs) -> URMForRewardModeling:
    """
    The URM that an adapter makes of its base, with the adapter's weights added to the base's.

    Args:
        adapter (`str` or `Path`): folder or repository.
        revision (`str`, *optional*): its commit, branch or tag; that of the base is in the adapter.
        kwargs: for loading the base (`dtype`, `device_map`, ...) and for finding both (`token`, `cache_dir`, ...).

    Returns:
        `URMForRewardModeling`: a model without an adapter, in eval mode.

    Raises:
        ValueError: the adapter does not fit its base, or was trained on other weights than the base has.
        ImportError: peft is not installed.
    """
    source = MemberSource(str(adapter), revision, HubPlace.take(kwargs))
    model = load_adapters([source], **kwargs).merge_and_unload(safe_merge=True)
    model.score.config = model.config  # peft's copy of the head has a copy of it
    model.config.name_or_path = model.name_or_path = str(adapter)  # which another adapter on it names as its base
    return model


def save_adapter_with_head(
    adapter: str | Path, model: URMForRewardModeling, folder: str | Path, revision: str | None = None, **hub: Any
):
    """
    A copy of an adapter with the head of `model`: after the gating stage on the merged model, an adapter again.

    The backbone's part is copied as it is; `model` must be what [`load_adapter`] made of this adapter (with the same
    `revision`, `token`, ...), trained further in its head only. A posterior is the model's own, or there is none.

    Args:
        adapter (`str` or `Path`): folder or repository of the adapter.
        model (`URMForRewardModeling`): has the new head.
        folder (`str` or `Path`): where the copy goes; may be the adapter's own.
        revision (`str`, *optional*): commit, branch or tag of the adapter.
        hub: for finding it (`token`, `cache_dir`, ...).

    Raises:
        ValueError: the adapter has a head of another form.
    """
    source, folder = MemberSource(str(adapter), revision, HubPlace.read(hub)), Path(folder)
    record = source.base_record() or _describe_base(source)
    tensors = dict(read_tensors(source.weight_files(), ADAPTER_PREFIX))
    head = {f"{ADAPTER_PREFIX}{HEAD}{name}": tensor for name, tensor in model.score.state_dict().items()}
    tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(POSTERIOR)}
    own = {key for key in head if not key.startswith(POSTERIOR)}
    unlike = sorted({key for key in tensors if key.startswith(ADAPTER_PREFIX + HEAD)} ^ own)
    if unlike:
        raise ValueError(f"The head of the adapter {adapter} and the model's differ in {unlike[:4]}.")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{ADAPTER_WEIGHTS}.tmp"  # the adapter's own file may be replaced, and is still mapped
    save_file({key: tensor.contiguous().cpu() for key, tensor in (tensors | head).items()}, written)
    written.replace(folder / ADAPTER_WEIGHTS)
    write_json(folder / ADAPTER_CONFIG, source.adapter or {})
    model.config.save_pretrained(folder)
    _write_record(folder, record)


load_merged = renamed("urm_hf.checkpoints.adapters.load_merged", load_adapter)
