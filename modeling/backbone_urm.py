"""The decoder of a pretrained model, for fresh heads: causal LM, reward model or adapter. Travels with checkpoints."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.utils import cached_file, find_adapter_config_file, logging

from .configuration_urm import URMConfig, refuse_published_layout

logger = logging.get_logger(__name__)

HUB_ACCESS = ("cache_dir", "force_download", "local_files_only", "proxies", "token")  # to any repository
HUB = (*HUB_ACCESS, "revision", "subfolder")  # and to one place in it


def load_backbone(name: str, **kwargs: Any) -> PreTrainedModel:
    """
    The decoder of a repository or folder; what else it holds is discarded and named in the log.

    An adapter (LoRA and its kin, with peft installed) is merged into the model that it was trained on. `revision` is
    then the adapter's; that of the model is the one in adapter_config.json.

    Args:
        kwargs: for `from_pretrained` (`dtype`, `device_map`, `revision`, `trust_remote_code`, ...).

    Raises:
        ValueError: weights of the decoder are missing, or the checkpoint is of a URM.
        ImportError: an adapter, and peft is not installed.
    """
    kwargs.pop("output_loading_info", None)
    hub = {key: kwargs[key] for key in HUB if key in kwargs}
    adapter = find_adapter_config_file(name, **hub)
    if adapter is not None:
        return _merged_adapter(name, Path(adapter), hub, kwargs)
    refuse_published_layout(raw_config(name, hub).get("architectures"), name)
    backbone, info = AutoModel.from_pretrained(name, output_loading_info=True, **kwargs)
    _check_complete(name, info["missing_keys"])
    _log_discarded(name, info["unexpected_keys"])
    return backbone


def _merged_adapter(name: str, config_file: Path, hub: dict[str, Any], kwargs: dict[str, Any]) -> PreTrainedModel:
    config = json.loads(config_file.read_text(encoding="utf-8"))
    base, pins = _base_of(name, config, hub)
    if kwargs.get("quantization_config") is not None:
        raise ValueError(f"{name} is an adapter: merged into quantised weights it would be rounded. Do not quantise.")
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise ImportError(f"{name} is an adapter of {base}: `pip install peft` to load it.") from error
    # peft would take pickled weights where these are missing
    folder = str(Path(cached_file(name, "adapter_model.safetensors", **hub)).parent)
    peft_config = peft.PeftConfig.from_pretrained(folder)
    if peft_config.is_prompt_learning:
        raise ValueError(f"{name} is a {peft_config.peft_type} adapter: virtual tokens cannot be merged into weights.")
    kwargs = {key: kwargs[key] for key in kwargs if key not in HUB} | pins
    for key, tensor in peft.load_peft_weights(folder, device="cpu").items():
        if ".score." in key and key.endswith(("score.weight", "lora_B.weight")):  # the base may have another head
            kwargs |= {"num_labels": len(tensor), "ignore_mismatched_sizes": True}
    model, info = _base_class(config).from_pretrained(base, output_loading_info=True, **kwargs)
    decoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    wrong = [*info["missing_keys"], *(key for key, *_ in info["mismatched_keys"])]
    _check_complete(base, [key for key in wrong if key.startswith(decoder)])
    model = peft.PeftModel(model, peft_config)
    result = model.load_adapter(folder, "default")
    if result.missing_keys or result.unexpected_keys:
        listed = f"missing {sorted(result.missing_keys)[:5]}, unexpected {sorted(result.unexpected_keys)[:5]}"
        raise ValueError(f"The adapter {name} does not fit its model {base}: {listed}.")
    model = model.merge_and_unload()
    _log_discarded(f"{base} with {name}", [key for key in model.state_dict() if not key.startswith(decoder)])
    return model.base_model.requires_grad_(True)  # as after loading without an adapter


def _base_of(name: str, config: dict[str, Any], hub: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The model that an adapter was trained on, and from where on the Hub."""
    base, beside = config.get("base_model_name_or_path"), raw_config(name, hub)
    if beside and beside.get("model_type") != URMConfig.model_type:  # transformers would take that model as its base
        raise ValueError(f"{name} holds a model and an adapter: put the adapter into a folder of its own.")
    if not base:
        raise ValueError(f"{name} is an adapter whose adapter_config.json has no `base_model_name_or_path`.")
    pins = {key: hub[key] for key in hub if key not in ("revision", "subfolder")}
    pins |= {"revision": config["revision"]} if config.get("revision") else {}
    found = raw_config(base, pins)
    if not found:
        raise FileNotFoundError(f"{name} is an adapter of {base}, where there is no config.json.")
    refuse_published_layout(found.get("architectures"), base)
    if URMConfig.model_type in (found.get("model_type"), beside.get("model_type")):
        raise ValueError(
            f"{name} is an adapter of a URM, which has heads already: load it with `urm_hf.load_adapter({name!r})`."
        )
    if found.get("quantization_config"):
        raise ValueError(f"{base}, which {name} is an adapter of, is quantised: merged into it, it would be rounded.")
    return base, pins


def _base_class(config: dict[str, Any]) -> Any:
    """The Auto class of the model that an adapter was trained on."""
    task, name = config.get("task_type"), (config.get("auto_mapping") or {}).get("base_model_class", "")
    if task == "SEQ_CLS" or name.endswith("ForSequenceClassification"):
        return AutoModelForSequenceClassification
    if task == "CAUSAL_LM" or name.endswith("ForCausalLM"):
        return AutoModelForCausalLM
    if task in (None, "FEATURE_EXTRACTION"):
        return AutoModel
    raise ValueError(f"An adapter of the task {task!r} is not one of a causal LM or reward model.")


def raw_config(name: str, hub: dict[str, Any]) -> dict[str, Any]:
    """config.json without running any code; empty if there is none."""
    return PretrainedConfig.get_config_dict(name, _raise_exceptions_for_missing_entries=False, **hub)[0]


def _check_complete(name: str, missing):
    if missing:
        raise ValueError(f"{name} lacks weights of its decoder: {', '.join(sorted(map(str, missing))[:5])}.")


def _log_discarded(name: str, keys):
    discarded = sorted(key for key in keys if "rotary_emb" not in key)
    if discarded:
        logger.warning(f"Discarded weights of {name} not in its decoder: {discarded}.")
