"""
From a row to token ids: the one function by which conversations are trained on, scored and evaluated.

| a row | becomes |
|---|---|
| `[{"role": ..., "content": ...}, ...]` or `{"messages": [...]}` | the tokenizer's chat template |
| `{"prompt": [messages], "completion" or "response": str or [messages]}` | the same, prompt and answer joined |
| `{"prompt": str, "response": str}`, as in HelpSteer2 | the same; `<extra_id_1>` splits the prompt into turns |
| `{"prompt": str, "completion": str}`, as standard in TRL | plain text, with BOS and EOS as in TRL's RewardTrainer |
| `str` or `{"text": str}` | that text exactly: no BOS, EOS or template is added |
| `{"input_ids": [...]}` | those ids |

A second BOS is never added: templates bring their own, and tokenizers are called without special tokens on their text.
"""

import re
from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedTokenizerBase

Messages = list[dict[str, Any]]
TRUNCATIONS = ("error", "left", "right", "drop")
ANSWER_COLUMNS = ("completion", "response")
_FILL_IN = "Fill it in, or leave the row out."
_TURN = re.compile(r"<extra_id_1>(Assistant|User)[ \t]*\n?")


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, conversation: Any, answer_column: str | None = None
) -> list[int]:
    """
    Token ids of one conversation in any of the forms above.

    Args:
        answer_column (`str`, *optional*): the column with the answer, where it is neither `completion` nor `response`
            (`chosen`, `rejected`). Such a column may hold the whole conversation, if there is no `prompt`.

    Raises:
        ValueError: the form is unknown, roles are out of order, an answer is empty, or there is no chat template.
    """
    if isinstance(conversation, Mapping) and conversation.get("input_ids") is not None:
        if len(conversation["input_ids"]) == 0:
            raise ValueError("`input_ids` is empty.")
        return [int(token) for token in conversation["input_ids"]]
    text_or_messages, verbatim = _read(conversation, answer_column)
    if isinstance(text_or_messages, str):
        return _encode_text(tokenizer, text_or_messages, verbatim)
    check_messages(text_or_messages)
    if not tokenizer.chat_template:
        raise ValueError(
            "the tokenizer has no chat template, so messages cannot be written as text. Set "
            "`tokenizer.chat_template` (or `--chat_template_path`), or pass plain text as `text` or as strings "
            "`prompt` and `completion`."
        )
    # an empty column of a table reads as None; templates expect absent keys
    messages = [{key: value for key, value in message.items() if value is not None} for message in text_or_messages]
    return list(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=True)["input_ids"])


def limit_length(ids: list[int], max_length: int | None, truncation: str) -> list[int] | None:
    """`ids`, cut to `max_length` on the side named by `truncation`; None to drop them. "error" raises."""
    if max_length is None or len(ids) <= max_length:
        return ids
    if truncation == "left":
        return ids[-max_length:]
    if truncation == "right":
        return ids[:max_length]
    if truncation == "drop":
        return None
    raise ValueError(
        f"the conversation has {len(ids)} tokens, more than max_length={max_length}. Raise the limit, or say what to "
        'do: truncation="left" (keeps the end), "right" (keeps the beginning) or "drop".'
    )


def check_truncation(truncation: str) -> str:
    if truncation not in TRUNCATIONS:
        raise ValueError(f"`truncation` must be one of {', '.join(TRUNCATIONS)}, got {truncation!r}.")
    return truncation


def check_messages(messages: Messages):
    """
    A system turn only at the start, no empty turn, and at the end an assistant's answer to a user or a tool.

    Two turns of one role in a row are let through inside the history: real logs have them, and a template that cannot
    write them says so itself.
    """
    if not messages:
        raise ValueError("the conversation has no messages.")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise ValueError(f"message {number} must have a role and a content, got {type(message).__name__}.")
        role, content = message.get("role"), message.get("content")
        if role not in ("system", "developer", "user", "assistant", "tool"):
            raise ValueError(f"message {number} has the role {role!r}; known are system, user, assistant and tool.")
        if role in ("system", "developer") and number > 0:
            raise ValueError(f"message {number} is a {role} turn; only the first may be: roles out of order.")
        if not (content.strip() if isinstance(content, str) else content) and not message.get("tool_calls"):
            raise ValueError(f"message {number} ({role}) is empty. {_FILL_IN}")
    before, last = (messages[-2]["role"] if len(messages) > 1 else "nothing"), messages[-1]["role"]
    if last != "assistant":
        raise ValueError(f"the last message has the role {last!r}; a reward is for an assistant's answer.")
    if before not in ("user", "tool"):
        raise ValueError(f"the answer follows {before}, not a user or tool turn: roles out of order.")


def split_turns(prompt: str) -> Messages:
    """HelpSteer2's prompt string, with turns marked by `<extra_id_1>Assistant` and `<extra_id_1>User`, as messages."""
    parts = _TURN.split(prompt)
    messages = [{"role": "user", "content": parts[0].strip("\n") if len(parts) > 1 else parts[0]}]
    for role, content in zip(parts[1::2], parts[2::2], strict=True):
        messages.append({"role": role.lower(), "content": content.strip("\n")})
    return messages


def _read(conversation: Any, answer_column: str | None) -> tuple[str | Messages, bool]:
    """Text or messages of a row, and whether text is to be taken verbatim."""
    if isinstance(conversation, str):
        return conversation, True
    if isinstance(conversation, (list, tuple)):
        return list(conversation), False
    if not isinstance(conversation, Mapping):
        kind = type(conversation).__name__
        raise ValueError(f"a conversation must be messages, a text or a row of a table, got {kind}.")
    if answer_column is None:
        for column, verbatim in (("messages", False), ("text", True)):
            if conversation.get(column) is not None:
                return _typed(conversation, column, str if verbatim else list), verbatim
        answer_column = next((c for c in ANSWER_COLUMNS if conversation.get(c) is not None), None)
        if answer_column is None:
            raise ValueError(
                f"the row has the columns {sorted(conversation)}; expected `messages`, `text`, `input_ids`, or "
                "`prompt` with `completion` or `response` (and these not null)."
            )
    prompt, answer = (_typed(conversation, column, str, list) for column in ("prompt", answer_column))
    return _join(prompt, answer, answer_column), False


def _typed(row: Mapping[str, Any], column: str, *kinds: type) -> Any:
    """The value of a column, of one of these types or null."""
    value = list(row[column]) if isinstance(row.get(column), tuple) else row.get(column)
    if value is not None and not isinstance(value, kinds):
        expected = " or ".join("text" if kind is str else "messages" for kind in kinds)
        raise ValueError(f"`{column}` must be {expected}, got {type(value).__name__}.")
    return value


def _join(prompt: str | Messages | None, answer: str | Messages | None, column: str) -> str | Messages:
    if answer is None or (isinstance(answer, str) and not answer.strip()) or len(answer) == 0:
        raise ValueError(f"`{column}` is empty. {_FILL_IN}")
    if prompt is None:
        if column in ANSWER_COLUMNS:
            raise ValueError(f"`prompt` is missing beside `{column}`.")
        return answer  # TRL's implicit prompt: the column holds the whole conversation
    if isinstance(prompt, str) and isinstance(answer, str) and column != "response":
        return prompt + answer
    messages = split_turns(prompt) if isinstance(prompt, str) else list(prompt)
    return messages + ([{"role": "assistant", "content": answer}] if isinstance(answer, str) else list(answer))


def _encode_text(tokenizer: PreTrainedTokenizerBase, text: str, verbatim: bool) -> list[int]:
    if not text.strip():
        raise ValueError("the text is empty.")
    if verbatim:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    if tokenizer.eos_token and not text.endswith(tokenizer.eos_token):
        text += tokenizer.eos_token
    has_bos = bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)
    return list(tokenizer(text, add_special_tokens=not has_bos)["input_ids"])
