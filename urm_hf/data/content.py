"""What stands in the turns of a conversation: roles, text, tool calls; in one form, whatever a table made of it."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from urm_hf.data.errors import RowError

Messages = list[dict[str, Any]]
ROLES = ("system", "developer", "user", "assistant", "tool")
FILL_IN = "Fill it in, or leave the row out."
_TEXT_PARTS = ("text", "input_text", "output_text")
_TURN = re.compile(r"<extra_id_1>(Assistant|User)[ \t]*\n?")


def is_messages(value: Any) -> bool:
    """Whether a value is a list of turns."""
    return (
        isinstance(value, (list, tuple)) and bool(value) and all(isinstance(m, Mapping) and "role" in m for m in value)
    )


def plain_value(value: Any) -> Any:
    """
    A value as JSON would hold it: lists for tuples and arrays, and no keys that are null.

    A column of dictionaries in an Arrow table gives every row the keys of all rows, null where a row has none. Which
    nulls were there before cannot be told, so none is kept: a row reads alike from a JSON file and from a table.
    """
    if isinstance(value, Mapping):
        return {key: plain_value(inner) for key, inner in value.items() if inner is not None}
    if hasattr(value, "tolist"):  # arrays and scalars of numpy and torch
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain_value(inner) for inner in value]
    return value


def read_messages(value: Any) -> Messages:
    """The turns of a list: without nulls, their content as text."""
    return [_read_message(number, message) for number, message in enumerate(plain_value(value))]


def says_nothing(answer: Any) -> bool:
    """Whether an answer, as text or as turns, has neither text nor a tool call."""
    if isinstance(answer, str):
        return not answer.strip()
    return not any(message.get("tool_calls") or str(message.get("content") or "").strip() for message in answer)


def messages_from_json(value: Any) -> Any:
    """Messages as CSV files hold them, read; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            read = json.loads(value)
        except ValueError:
            return value
        return read if is_messages(read) else value
    return value


def split_turns(prompt: str) -> Messages:
    """HelpSteer2's prompt string, with turns marked by `<extra_id_1>Assistant` and `<extra_id_1>User`, as messages."""
    parts = _TURN.split(prompt)
    messages = [{"role": "user", "content": parts[0].strip("\n") if len(parts) > 1 else parts[0]}]
    for role, content in zip(parts[1::2], parts[2::2], strict=True):
        messages.append({"role": role.lower(), "content": content.strip("\n")})
    return messages


def check_messages(messages: Sequence[Mapping[str, Any]]):
    """
    A system turn only at the start, no empty turn, and at the end an assistant's answer to a user or a tool.

    Two turns of one role in a row are let through inside the history: real logs have them, and a template that cannot
    write them says so itself.
    """
    if not messages:
        raise RowError("the conversation has no messages.")
    for number, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise RowError(f"message {number} must have a role and a content, got {type(message).__name__}.")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise RowError(f"message {number} has the role {role!r:.80}; known are system, user, assistant and tool.")
        if role in ("system", "developer") and number > 0:
            raise RowError(f"message {number} is a {role} turn; only the first may be: roles out of order.")
        if not (content.strip() if isinstance(content, str) else content) and not message.get("tool_calls"):
            raise RowError(f"message {number} ({role}) is empty. {FILL_IN}")
    before, last = (messages[-2]["role"] if len(messages) > 1 else "nothing"), messages[-1]["role"]
    if last != "assistant":
        raise RowError(f"the last message has the role {last!r:.80}; a reward is for an assistant's answer.")
    if before not in ("user", "tool"):
        raise RowError(f"the answer follows {before}, not a user or tool turn: roles out of order.")


def _read_message(number: int, message: Any) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise RowError(f"message {number} must have a role and a content, got {type(message).__name__}.")
    message = dict(message)
    if "content" in message:
        message["content"] = _text_of(number, message.get("role"), message["content"])
    return message


def _text_of(number: int, role: Any, content: Any) -> str:
    """Templates differ in what they make of content in parts, down to printing Python's brackets: text is safe."""
    if isinstance(content, str):
        return content
    where = f"message {number} ({role!s:.80})"
    if not isinstance(content, list):
        kind = type(content).__name__
        raise RowError(f"{where} has content of the type {kind}; write it as text (JSON, if it is data).")
    texts = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
        if not isinstance(part, Mapping) or kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise RowError(
                f"{where} has content that is not text: a part of the type {kind!r:.80}. Reward models of text read "
                "text parts only."
            )
        texts.append(part["text"])
    return "".join(texts)
