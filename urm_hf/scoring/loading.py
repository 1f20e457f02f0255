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

    Raises:
        ValueError: weights of the model are missing, as those of the head are in a language model.
    """
    place = {"revision": hub["revision"], **{key: model_kwargs[key] for key in HUB if key in model_kwargs}}
    config = raw_config(name, place)
    ours = config.get("model_type") == URMConfig.model_type
    if ours and find_adapter_config_file(name, **place):
        from urm_hf.checkpoints.adapters import load_adapter  # lazily: with TRL's trainers

        return load_adapter(name, hub["revision"], **model_kwargs)
    # other models' own code counts its outputs itself, some of them attributes
    labels = {} if "AutoModelForSequenceClassification" in (config.get("auto_map") or {}) else {"num_labels": 1}
    model, loaded = AutoModelForSequenceClassification.from_pretrained(
        name, output_loading_info=True, **labels, **hub, **model_kwargs
    )
    if loaded["missing_keys"]:
        keys = ", ".join(sorted(loaded["missing_keys"])[:4])
        raise ValueError(
            f"{name} has no weights for {keys}, so that its rewards would be random: it is not a reward model. "
            "`URMForRewardModeling.from_backbone` makes an untrained one of a language model."
        )
    return model
