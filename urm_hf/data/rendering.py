"""Token ids of turns, of text, and of ids: where tokenizers and chat templates are called."""

import json
import operator
from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from urm_hf.data.content import Messages
from urm_hf.data.errors import RowError
from urm_hf.data.template_dates import template_without_clock

# of `apply_chat_template` itself: a row that sets them would get something else than the ids of its conversation
_RESERVED = {
    *("conversation", "tools", "tokenize", "return_dict", "return_tensors", "padding", "truncation", "max_length"),
    *("return_assistant_tokens_mask", "tokenizer_kwargs", "messages"),
}

# of a turn; the second as APIs wrote it before there were tools
CALLS = {"tool_calls": "tool calls", "function_call": "`function_call`"}


def encode_turns(
    tokenizer: PreTrainedTokenizerBase,
    turns: Messages,
    tools: list[Any] | None = None,
    template_kwargs: Mapping[str, Any] | None = None,
) -> list[int]:
    """What the chat template makes of the turns, as ids. Nothing of the turns is checked."""
    if not tokenizer.chat_template:
        raise RowError(
            "the tokenizer has no chat template, so messages cannot be written as text. Set "
            "`tokenizer.chat_template` (or `--chat_template_path`), or pass plain text as `text` or as strings "
            "`prompt` and `completion`."
        )
    kwargs = dict(template_kwargs or {})
    reserved = sorted(_RESERVED & kwargs.keys())
    if reserved:
        raise RowError(f"`chat_template_kwargs` may not set {', '.join(reserved)}.", column="chat_template_kwargs")
    # half of a surrogate pair is told as such, and not as what a tokenizer makes of it
    json.dumps(turns, ensure_ascii=False, default=str).encode()
    kwargs |= template_without_clock(tokenizer, tools, kwargs.get("chat_template"))
    given = kwargs | ({"tools": tools} if tools else {})
    ids = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **given)["input_ids"]
    if not len(ids):
        raise RowError("the chat template writes nothing for it.")
    if tools and _is_unwritten("tools", tokenizer, ids, turns, kwargs):
        raise RowError("the chat template does not write `tools`. Take one that does, or drop them.", column="tools")
    for name, told in CALLS.items():
        without = [{key: value for key, value in turn.items() if key != name} for turn in turns]
        if without != turns and _is_unwritten(name, tokenizer, ids, without, given):
            raise RowError(
                f"the chat template does not write {told}, so that answers which differ in them "
                "would be one. Take a template that does (`tokenizer.chat_template`)."
            )
    return list(ids)


def _is_unwritten(
    name: str, tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], turns: Messages, given: Mapping[str, Any]
) -> bool:
    """Whether a template that never speaks of a thing makes the same ids without it."""
    if name in str(tokenizer.chat_template):
        return False
    try:
        return list(tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True, **given)["input_ids"]) == ids
    except Exception:  # without it the template cannot do: so it is written
        return False


def encode_text(tokenizer: PreTrainedTokenizerBase, text: str, closed: bool) -> list[int]:
    """Ids of a text: exactly, or `closed` by EOS and begun with BOS as TRL does."""
    if not text.strip():
        raise RowError("the text is empty.")
    text.encode()
    if not closed:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token and not text.endswith(tokenizer.eos_token):
        text += tokenizer.eos_token
    has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=not has_bos)["input_ids"])


def check_ids(ids: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that a row holds, as integers of the vocabulary."""
    if len(ids) == 0:
        raise RowError("`input_ids` is empty.", column="input_ids")
    checked = []
    for place, token in enumerate(ids):
        if isinstance(token, bool) or not hasattr(token, "__index__"):
            raise RowError(f"`input_ids`[{place}] is {token!r:.80}, which is no token id.", column="input_ids")
        checked.append(operator.index(token))
    check_vocabulary(checked, len(tokenizer))
    return checked


def check_vocabulary(ids: Sequence[int], vocab_size: int):
    """A RowError if a model of so many embeddings has none for one of the ids."""
    if min(ids) < 0 or max(ids) >= vocab_size:
        place, token = next((n, token) for n, token in enumerate(ids) if not 0 <= token < vocab_size)
        raise RowError(f"token {place} has the id {token}, which is not in the vocabulary of {vocab_size}.")
