"""LoRA adapters of URMs on disk: complete enough to rebuild the URM, merged to train a gate on, or with a new gate."""

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers.utils import find_adapter_config_file

from urm_hf.checkpoints.files import read_json, write_json
from urm_hf.modeling import URMConfig, URMForRewardModeling
from urm_hf.modeling.card_urm import CARD_BLANK
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.members_urm import (
    ADAPTER_CONFIG,
    ADAPTER_PREFIX,
    ADAPTER_WEIGHTS,
    HEAD,
    MemberSource,
    load_adapters,
    tensors_of,
)
from urm_hf.moved import renamed


def complete_adapter(folder: str | Path, config: URMConfig):
    """
    Writes the URM's config (attributes, label statistics) beside an adapter, and the name of its base into the
    adapter's own, where peft leaves it out because the URM was built around a causal LM and never loaded by name.
    The empty form that peft writes as a model card is removed.
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


def is_adapter(name: str | Path, **hub: Any) -> bool:
    """Whether a folder or repository holds an adapter rather than a model. `hub`: `revision`, `token`, ..."""
    return find_adapter_config_file(str(name), **hub) is not None


def load_adapter(adapter: str | Path, revision: str | None = None, **kwargs) -> URMForRewardModeling:
    """
    The URM that an adapter makes of its base, with the adapter's weights added to the base's.

    Args:
        adapter: folder or repository. revision: its commit, branch or tag; that of the base is in the adapter.
        kwargs: for loading the base (`dtype`, `device_map`, ...) and for finding both (`token`, `cache_dir`, ...).
    """
    source = MemberSource(str(adapter), revision, HubPlace.take(kwargs))
    model = load_adapters([source], **kwargs).merge_and_unload(safe_merge=True)
    model.config.name_or_path = model.name_or_path = str(adapter)  # which another adapter on it names as its base
    return model


def save_adapter_with_head(
    adapter: str | Path, model: URMForRewardModeling, folder: str | Path, revision: str | None = None, **hub: Any
):
    """
    A copy of an adapter with the head of `model`: after the gating stage on the merged model, an adapter again.

    The backbone's part is copied as it is; `model` must be what [`load_adapter`] made of this adapter (with the same
    `revision`, `token`, ...), trained further in its head only.
    """
    source, folder = MemberSource(str(adapter), revision, HubPlace.read(hub)), Path(folder)
    tensors = dict(tensors_of(source.weight_files(), ADAPTER_PREFIX))
    head = {f"{ADAPTER_PREFIX}{HEAD}{name}": tensor for name, tensor in model.score.state_dict().items()}
    unlike = sorted({key for key in tensors if key.startswith(ADAPTER_PREFIX + HEAD)} ^ set(head))
    if unlike:
        raise ValueError(f"The head of the adapter {adapter} and the model's differ in {unlike[:4]}.")
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"{ADAPTER_WEIGHTS}.tmp"  # the adapter's own file may be replaced, and is still mapped
    save_file({key: tensor.contiguous().cpu() for key, tensor in (tensors | head).items()}, written)
    written.replace(folder / ADAPTER_WEIGHTS)
    write_json(folder / ADAPTER_CONFIG, source.adapter or {})
    model.config.save_pretrained(folder)


load_merged = renamed("urm_hf.checkpoints.adapters.load_merged", load_adapter)
