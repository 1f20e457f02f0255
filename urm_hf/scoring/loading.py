"""A reward model by its name: what transformers loads, or a LoRA adapter of a URM together with its base."""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import AutoModel, AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import find_adapter_config_file

from urm_hf.checkpoints.adapters import load_adapter
from urm_hf.modeling.backbone_urm import find_weights, read_config
from urm_hf.modeling.base_urm import BASE_WEIGHTS
from urm_hf.modeling.checks_urm import check_size, load_alone
from urm_hf.modeling.configuration_urm import URMConfig
from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig
from urm_hf.modeling.hub_place_urm import HubPlace

ENSEMBLE_ALONE = ("strategy", "aggregation", "aggregation_k")
PLACEMENTS = ("auto", "balanced", "balanced_low_0", "sequential", "disk")  # of `device_map`, which are no devices


def check_loading(model_kwargs: Mapping[str, Any]):
    """
    Looks at arguments of `from_pretrained` before a model is loaded, where an error over them reads as one of files.

    Raises:
        ValueError: a precision or a device that is not there, or an argument of another name.
    """
    if "device" in model_kwargs:
        raise ValueError('`device` is called `device_map` where a model is loaded by name: device_map={"": "cuda"}.')
    for name in ("dtype", "torch_dtype"):
        dtype = model_kwargs.get(name)
        if isinstance(dtype, str) and dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise ValueError(f"`{name}` must be auto, float32, bfloat16 or float16, got {dtype!r}.")
    places = model_kwargs.get("device_map")
    for place in set(places.values()) if isinstance(places, Mapping) else {places}:
        if isinstance(place, str) and place not in PLACEMENTS:
            _check_device(place)


def _check_device(place: str):
    try:
        device = torch.device(place)
    except RuntimeError as error:
        raise ValueError(f"there is no device {place!r}: they are called cpu, cuda, cuda:1, ...") from error
    count = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= count:
        has = f"{count} GPUs" if count else "no GPU"
        raise ValueError(f"there is no device {place!r}: PyTorch sees {has} here. Name another one, or leave it out.")


def load_reward_model(name: str, hub: dict[str, Any], model_kwargs: dict[str, Any]) -> PreTrainedModel:
    """
    Args:
        name (`str`): a repository or folder.
        hub (`dict`): `revision` and `trust_remote_code`.
        model_kwargs (`dict`): for loading it (`dtype`, `device_map`, ...) and for finding it (`token`, `cache_dir`,
            ...).

    Returns:
        `PreTrainedModel`: a URM, with an adapter merged into its base; an ensemble; or another model of one reward.

    Raises:
        ValueError: weights of the model are missing, as those of the head are in a language model.
    """
    place = HubPlace.read(model_kwargs).at(hub["revision"])
    config = read_config(name, place)
    _check_for_one_model(name, config, model_kwargs)
    ours = config.get("model_type") == URMConfig.model_type
    is_adapter = find_adapter_config_file(name, **place.kwargs()) is not None
    if ours and is_adapter:
        return load_adapter(name, hub["revision"], **model_kwargs)
    auto = _choose_loader(config)
    if auto is AutoModel and not hub.get("trust_remote_code"):
        # transformers would load the backbone of a type that it knows, and leave the head out
        raise ValueError(
            f"{name} is a reward model of its own code ({config['auto_map'][auto.__name__]}): read that code, pin the "
            "commit, and pass trust_remote_code=True (--trust-remote-code) to run it."
        )
    # other models' own code counts its outputs itself, some of them attributes
    own_code = auto.__name__ in (config.get("auto_map") or {})
    labels = {} if own_code else {"num_labels": 1}
    if config.get("model_type") == URMEnsembleConfig.model_type:
        weights = {}  # those of its members are looked at where they are loaded
    else:
        weights = {"use_safetensors": True}
        if not is_adapter and not config.get(BASE_WEIGHTS):  # else those of its base, which are looked at there
            check_size(config, find_weights(name, place), name)
    with load_alone(name):
        model, loaded = auto.from_pretrained(
            name, output_loading_info=True, **labels, **weights, **hub, **model_kwargs
        )
    if loaded["missing_keys"]:  # transformers only warns, and fills them with random numbers
        keys = ", ".join(sorted(loaded["missing_keys"])[:4])
        raise ValueError(
            f"{name} has no weights for {keys}, so that its rewards would be random: it is not a reward model. "
            "`URMForRewardModeling.from_backbone` makes an untrained one of a language model."
        )
    return model


def _check_for_one_model(name: str, config: dict[str, Any], model_kwargs: dict[str, Any]):
    if config.get("model_type") == URMEnsembleConfig.model_type:
        return
    for setting in ENSEMBLE_ALONE:
        if setting in model_kwargs:
            raise ValueError(f"`{setting}` is of an ensemble, and {name} is one model: leave it out.")


def _choose_loader(config: dict[str, Any]) -> type[AutoModel] | type[AutoModelForSequenceClassification]:
    """
    AutoModelForSequenceClassification, or AutoModel for a reward model whose own code names itself there alone.

    InternLM2's and Qwen2.5-Math's do. What else has `AutoModel` in its `auto_map` has its backbone there, under
    another name than that of the model whose weights these are.
    """
    auto_map, architectures = config.get("auto_map") or {}, config.get("architectures") or []
    named = str(auto_map.get(AutoModel.__name__, "")).rpartition(".")[2]
    alone = AutoModelForSequenceClassification.__name__ not in auto_map and named in architectures
    return AutoModel if alone else AutoModelForSequenceClassification
