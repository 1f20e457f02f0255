"""The decoder of a pretrained model, for fresh heads: causal LM, reward model or adapter. Travels with checkpoints."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.utils import find_adapter_config_file, logging

from .checks_urm import (
    check_adapter_config,
    check_config,
    check_folder,
    check_size,
    load_alone,
    read_json_object,
)
from .configuration_urm import URMConfig, refuse_published_layout
from .hub_place_urm import HubPlace, check_name

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

logger = logging.get_logger(__name__)


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
    place = HubPlace.read(kwargs)
    check_name(name)
    adapter = find_adapter_config_file(name, **place.kwargs())
    if adapter is not None:
        with load_alone(name):
            return _load_merged_adapter(name, Path(adapter), place, kwargs)
    config = read_config(name, place)
    refuse_published_layout(config.get("architectures"), name)
    if not kwargs.get("gguf_file"):
        check_size(config, find_weights(name, place), name)
        kwargs["use_safetensors"] = True
    with load_alone(name):
        backbone, info = AutoModel.from_pretrained(name, output_loading_info=True, **kwargs)
    _check_complete(name, info["missing_keys"])
    _log_discarded(name, info["unexpected_keys"])
    return backbone


def _load_merged_adapter(name: str, config_file: Path, place: HubPlace, kwargs: dict[str, Any]) -> PreTrainedModel:
    config = read_json_object(config_file)
    check_adapter_config(config, name)
    base, pins = _find_base(name, config, place)
    if kwargs.get("quantization_config") is not None:
        raise ValueError(f"{name} is an adapter: merged into quantised weights it would be rounded. Do not quantise.")
    try:
        peft = import_module("peft")
    except ImportError as error:
        raise ImportError(f"{name} is an adapter of {base}: `pip install peft` to load it.") from error
    # peft would take pickled weights where these are missing
    weights = place.find_file(name, "adapter_model.safetensors")
    if weights is None:
        raise ValueError(f"{name} has no adapter_model.safetensors; pickled weights (.bin) are never loaded.")
    folder = str(Path(weights).parent)
    peft_config = peft.PeftConfig.from_pretrained(folder)
    if peft_config.is_prompt_learning:
        raise ValueError(f"{name} is a {peft_config.peft_type} adapter: virtual tokens cannot be merged into weights.")
    HubPlace.take(kwargs)
    kwargs |= pins.kwargs()
    for key, tensor in peft.load_peft_weights(folder, device="cpu").items():
        if ".score." in key and key.endswith(("score.weight", "lora_B.weight")):  # the base may have another head
            kwargs |= {"num_labels": len(tensor), "ignore_mismatched_sizes": True}
    model, info = _base_class(config).from_pretrained(base, output_loading_info=True, use_safetensors=True, **kwargs)
    decoder = "" if model.base_model is model else f"{model.base_model_prefix}."
    wrong = [*info["missing_keys"], *(item if isinstance(item, str) else item[0] for item in info["mismatched_keys"])]
    _check_complete(base, [key for key in wrong if key.startswith(decoder)])
    model = peft.PeftModel(model, peft_config)
    result = model.load_adapter(folder, "default")
    if result.missing_keys or result.unexpected_keys:
        listed = f"missing {sorted(result.missing_keys)[:5]}, unexpected {sorted(result.unexpected_keys)[:5]}"
        raise ValueError(f"The adapter {name} does not fit its model {base}: {listed}.")
    model = model.merge_and_unload()
    _log_discarded(f"{base} with {name}", [key for key in model.state_dict() if not key.startswith(decoder)])
    return model.base_model.requires_grad_(True)  # as after loading without an adapter


def _find_base(name: str, config: dict[str, Any], place: HubPlace) -> tuple[str, HubPlace]:
    """The model that an adapter was trained on, and from where on the Hub."""
    base, beside = config.get("base_model_name_or_path"), read_config(name, place)
    if beside and beside.get("model_type") != URMConfig.model_type:  # transformers would take that model as its base
        raise ValueError(f"{name} holds a model and an adapter: put the adapter into a folder of its own.")
    if not isinstance(base, str) or not base:
        raise ValueError(f"{name} is an adapter whose adapter_config.json has no `base_model_name_or_path`.")
    pins = place.of_another(config.get("revision"))
    found = read_config(base, pins)
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


def read_config(name: str, place: HubPlace) -> dict[str, Any]:
    """
    config.json of a repository or folder without running any code; empty if there is none.

    Raises:
        ValueError: it is damaged, asks for code of another repository, or for sizes that no model has.
    """
    if os.path.isdir(name):
        check_folder(name)
    file = place.find_file(name, "config.json")
    if file is None:
        return {}
    config = read_json_object(file)
    check_config(config, name)
    return config


def find_weights(name: str, place: HubPlace) -> list[str]:
    """
    The safetensors files of a repository or folder.

    Raises:
        ValueError: it has none, or its index is damaged or names files elsewhere.
    """
    single = place.find_file(name, WEIGHTS)
    if single is not None:
        return [single]
    index = place.find_file(name, INDEX)
    if index is None:
        check_holds_model(name, place)
        raise ValueError(
            f"{name} has neither {WEIGHTS} nor {INDEX}; pickled weights (.bin) are never loaded. Save it again with "
            "`save_pretrained`."
        )
    return [find_shard(name, shard, place) for shard in sorted(set(read_weight_map(index).values()))]


def check_holds_model(name: str, place: HubPlace):
    """A ValueError for a folder that is no model's, nor an adapter's: it names the models in it."""
    if not os.path.isdir(name) or place.find_file(name, "adapter_config.json") is not None:
        return
    if place.find_file(name, "config.json") is None:
        raise ValueError(f"{name} holds no model: it has no config.json.{_name_models_inside(name)}")


def _name_models_inside(folder: str) -> str:
    """Where the models are of which somebody has named the folder around them, as a sentence."""
    inside = sorted(os.path.join(folder, one) for one in os.listdir(folder))
    models = [path for path in inside if os.path.isfile(os.path.join(path, "config.json"))]
    return f" Name one of those in it: {', '.join(models[:5])}." if models else ""


def read_weight_map(index: str) -> dict[str, str]:
    """The file of each tensor, of an index. A ValueError if it is damaged."""
    weight_map = read_json_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise ValueError(f"{index} is damaged: it has no `weight_map` of tensors and files. Download it again.")
    return weight_map


def find_shard(name: str, shard: str, place: HubPlace) -> str:
    """The path of a file that an index names; a ValueError for one elsewhere, or that is not there."""
    if os.path.basename(shard) != shard or not shard.endswith(".safetensors"):
        raise ValueError(f"{INDEX} of {name} names {shard!r}, which is not a safetensors file beside it.")
    file = place.find_file(name, shard)
    if file is None:
        raise ValueError(f"{name} is incomplete: {INDEX} names {shard!r}, which is not there. Download it again.")
    return file


def _check_complete(name: str, missing):
    if missing:
        raise ValueError(f"{name} lacks weights of its decoder: {', '.join(sorted(map(str, missing))[:5])}.")


def _log_discarded(name: str, keys):
    discarded = sorted(key for key in keys if "rotary_emb" not in key)
    if discarded:
        logger.warning(f"Discarded weights of {name} not in its decoder: {discarded}.")
