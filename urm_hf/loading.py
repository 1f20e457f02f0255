"""A reward model by its name: what transformers loads, or a LoRA adapter of a URM together with its base."""

from typing import Any

from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import find_adapter_config_file

from urm_hf.modeling.backbone_urm import HUB, raw_config
from urm_hf.modeling.configuration_urm import URMConfig


def load_reward_model(name: str, hub: dict[str, Any], model_kwargs: dict[str, Any]) -> PreTrainedModel:
    """
    Args:
        name: repository or folder. hub: `revision` and `trust_remote_code`.
        model_kwargs: for loading it (`dtype`, `device_map`, ...) and for finding it (`token`, `cache_dir`, ...).
    """
    place = {"revision": hub["revision"], **{key: model_kwargs[key] for key in HUB if key in model_kwargs}}
    if raw_config(name, place).get("model_type") == URMConfig.model_type and find_adapter_config_file(name, **place):
        from urm_hf.trainers.adapters import load_merged  # lazily: with TRL's trainers

        return load_merged(name, hub["revision"], **model_kwargs)
    return AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, **hub, **model_kwargs)
