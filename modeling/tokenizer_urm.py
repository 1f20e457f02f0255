"""
Tokenizers of checkpoints: loaded without surprises, and saved in words of both transformers 4 and 5. This file travels
with ensemble repositories.
"""

import json
import os
from typing import Any

from transformers import CONFIG_MAPPING, AutoTokenizer, PretrainedConfig, PreTrainedTokenizerBase

from .backbone_urm import read_config
from .checks_urm import check_folder, explain_damage, read_json_object
from .hub_place_urm import HubPlace, check_name

TOKENIZER_CONFIG = "tokenizer_config.json"
URM_TYPE = "urm"  # `model_type` of a URM


def load_tokenizer(name: str, trust_remote_code: bool | None = False, **hub: Any) -> PreTrainedTokenizerBase:
    """
    The tokenizer of a repository or folder.

    Args:
        name (`str`): repository or folder.
        trust_remote_code (`bool`, *optional*, defaults to `False`): runs code that it brings.
        hub: `revision`, `token`, `cache_dir`, ... for finding it.

    Raises:
        ValueError: its files are damaged.
    """
    if os.path.isdir(name):
        check_folder(name)
        for file in (TOKENIZER_CONFIG, "tokenizer.json"):
            if os.path.exists(os.path.join(name, file)):
                read_json_object(os.path.join(name, file))
    check_name(name)
    with explain_damage(f"The tokenizer of {name}"):
        return AutoTokenizer.from_pretrained(
            name, trust_remote_code=trust_remote_code, **hub, **_config_of_unknown(name, trust_remote_code, hub)
        )


def _config_of_unknown(name: str, trust_remote_code: bool | None, hub: dict[str, Any]) -> dict[str, Any]:
    """
    A plain config for a URM where transformers does not know URMs and may run no code to learn of them: it would take
    such a one itself, and warn that it is another model's. A tokenizer reads nothing of it.
    """
    if trust_remote_code or URM_TYPE in CONFIG_MAPPING:
        return {}
    is_urm = read_config(name, HubPlace.read(hub)).get("model_type") == URM_TYPE
    return {"config": PretrainedConfig(name_or_path=name)} if is_urm else {}


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: str | os.PathLike):
    """Saves a tokenizer so that transformers 4 reads it too."""
    tokenizer.save_pretrained(folder)
    rewrite_for_transformers_4(folder)


def rewrite_for_transformers_4(folder: str | os.PathLike):
    """Puts the tokenizer_config.json of a folder, if it has one, into the words of both versions."""
    path = os.path.join(folder, TOKENIZER_CONFIG)
    if not os.path.isfile(path):
        return
    found = read_json_object(path)
    config = translate_for_transformers_4(found)
    if config != found:
        with open(path, "w", encoding="utf-8") as file:
            file.write(json.dumps(config, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def translate_for_transformers_4(tokenizer_config: dict[str, Any]) -> dict[str, Any]:
    """A `tokenizer_config.json` of transformers 5 in the words that version 4 has too; version 5 reads both alike."""
    config = dict(tokenizer_config)
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    return config
