"""
What members of an ensemble must have in common, and what they must not. This file travels with ensemble repositories.
"""

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .configuration_urm import URMConfig
from .head_urm import POSTERIOR
from .members_urm import MemberSource
from .tokenizer_urm import load_tokenizer

TOKENIZER_PARTS = ("model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_configs(names: Sequence[str], configs: Sequence[URMConfig]):
    """Members must predict the same attributes in one order and read the same token ids."""
    for name, config in zip(names[1:], configs[1:], strict=True):
        for attribute in ("attributes", "vocab_size", "pad_token_id"):
            ours, theirs = getattr(configs[0], attribute), getattr(config, attribute)
            if ours != theirs:
                raise ValueError(f"Members differ in {attribute}: {names[0]} has {ours}, {name} has {theirs}.")


def check_heads(names: Sequence[str], heads: Sequence[dict[str, Tensor]]):
    """Equal heads would agree for ever, whatever their posteriors are."""
    heads = [{key: tensor for key, tensor in head.items() if key not in POSTERIOR} for head in heads]
    for i, ours in enumerate(heads):
        for j, theirs in enumerate(heads[:i]):
            if ours.keys() == theirs.keys() and all(
                ours[key].shape == theirs[key].shape and torch.equal(ours[key].cpu(), theirs[key].cpu())
                for key in ours
            ):
                raise ValueError(
                    f"Members {names[j]} and {names[i]} have equal heads: their disagreement would always be zero. "
                    "Train them with different seeds."
                )


def check_tokenizers(sources: Sequence[MemberSource]):
    """
    Members must encode a conversation alike: vocabulary, special tokens, splitting, chat template.

    No code of theirs runs: who trusts an ensemble has read its code, not that of all repositories that it names.
    """
    first: tuple[str, dict[str, Any]] | None = None
    for source in sources:
        if source.file("tokenizer_config.json") is None:
            continue  # nothing to compare; the ids come from another member's tokenizer
        tokenizer = load_tokenizer(source.name, **source.place.kwargs())
        ours = _tokenizer_parts(tokenizer)
        first = first or (source.name, ours)
        for part, value in ours.items():
            if first[1].get(part) != value:
                raise ValueError(
                    f"Members differ in their tokenizer's {part}: {first[0]} has {_short(first[1].get(part))}, "
                    f"{source.name} has {_short(value)}. Members must read a conversation alike."
                )


def _tokenizer_parts(tokenizer) -> dict[str, Any]:
    parts = {"chat template": tokenizer.chat_template, "vocabulary size": len(tokenizer)}
    parts |= {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token")}
    if tokenizer.is_fast:
        backend = json.loads(tokenizer.backend_tokenizer.to_str())
        return parts | {part: backend.get(part) for part in TOKENIZER_PARTS}
    return parts | {"vocabulary": tokenizer.get_vocab()}


def _short(value: Any, width: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= width else f"{text[:width]}… ({len(text)} characters)"
