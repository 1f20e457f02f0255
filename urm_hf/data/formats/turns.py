"""Turns of a conversation from the ways in which datasets write them: columns, marked text, `from` and `value`."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from urm_hf.data.content import read_messages
from urm_hf.data.formats.format import Messages, Row
from urm_hf.data.formats.values import decode_list, require

HUMAN_ASSISTANT = re.compile(r"\n\n(Human|Assistant):")
SHAREGPT_ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model"), "assistant"),
    **dict.fromkeys(("observation", "tool", "function_response"), "tool"),
    "system": "system",
}
FUNCTION_CALL = ("function_call", "tool_call")


def build_prompt(question: str, system: Any = None, history: Any = None) -> Messages:
    """
    The turns before an answer.

    Args:
        question (`str`): the last turn, the user's.
        system (`str`, *optional*): the system prompt; empty or null is none.
        history (`list`, *optional*): rounds of [user, assistant].
    """
    turns: Messages = []
    if system is not None and not isinstance(system, str):
        raise ValueError(f"`system` must be text, got {type(system).__name__} {system!r:.60}.")
    if system and system.strip():
        turns.append({"role": "system", "content": system})
    for number, round_ in enumerate(decode_list(history) or []):
        if not isinstance(round_, (list, tuple)) or len(round_) != 2 or not all(isinstance(t, str) for t in round_):
            raise ValueError(f"`history`[{number}] must be a question and an answer, got {round_!r:.60}.")
        turns += [{"role": "user", "content": round_[0]}, {"role": "assistant", "content": round_[1]}]
    return [*turns, {"role": "user", "content": question}]


def read_question(row: Row, column: str) -> str:
    """
    The text of a column with a question.

    Raises:
        ValueError: it is missing, null, empty or not text.
    """
    question = require(row, column, str)
    if not question.strip():
        raise ValueError(f"`{column}` is empty. Fill it in, or leave the row out.")
    return str(question)


def join_instruction(row: Row) -> str:
    """Instruction and input of an alpaca row, as LLaMA-Factory joins them: with a line break between."""
    instruction, given = read_question(row, "instruction"), row.get("input")
    if given is None or (isinstance(given, str) and not given.strip()):
        return instruction
    return f"{instruction}\n{require(row, 'input', str)}"


def split_human_assistant(text: str, column: str) -> Messages:
    """
    Turns of a text in which "\\n\\nHuman:" and "\\n\\nAssistant:" mark them, as in hh-rlhf. A last turn of the
    assistant that is empty (a prompt) is left out.

    Raises:
        ValueError: it does not begin with a mark.
    """
    parts = HUMAN_ASSISTANT.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip())
    if parts[0].strip() or len(parts) < 3:
        raise ValueError(f'`{column}` must begin with "\\n\\nHuman:" or "\\n\\nAssistant:", got {text!r:.60}.')
    turns = [
        {"role": "user" if mark == "Human" else "assistant", "content": content.strip()}
        for mark, content in zip(parts[1::2], parts[2::2], strict=True)
    ]
    if turns[-1]["role"] == "assistant" and not turns[-1]["content"]:
        turns.pop()
    return turns


def is_human_assistant(value: Any) -> bool:
    """Whether a text has hh-rlhf's marks."""
    if not isinstance(value, str):
        return False
    start = value.lstrip()
    return start.startswith(("Human:", "Assistant:")) and "\n\nAssistant:" in value


def read_sharegpt(value: Any, column: str) -> Messages:
    """
    Turns with `from` and `value`; or with `role` and `content`, which stay as they are.

    Raises:
        ValueError: a turn has another form, or is by nobody who is known.
    """
    turns = decode_list(value)
    if not isinstance(turns, (list, tuple)) or not turns:
        raise ValueError(f"`{column}` must be a list of turns, got {type(value).__name__} {value!r:.60}.")
    return [_read_turn(turn, f"`{column}`[{number}]") for number, turn in enumerate(turns)]


def read_tools(row: Row) -> Any:
    """The tools of a row: functions that the assistant may call, as a list."""
    tools = row.get("tools")
    if not isinstance(tools, str) or not tools.strip():
        return tools or None
    try:
        return json.loads(tools)
    except ValueError as error:
        raise ValueError(f"`tools` is not JSON ({error}).") from error


def with_system(messages: Messages, system: Any) -> Messages:
    """The messages after a system prompt, unless they begin with one."""
    if system is None or (isinstance(system, str) and not system.strip()):
        return messages
    if not isinstance(system, str):
        raise ValueError(f"`system` must be text, got {type(system).__name__} {system!r:.60}.")
    if messages and messages[0]["role"] == "system":
        if str(messages[0].get("content")).strip() != system.strip():
            raise ValueError("`system` and the first turn are two different system prompts; keep one.")
        return messages
    return [{"role": "system", "content": system}, *messages]


def split_shared(
    prompt: Any, chosen: Sequence[Row], rejected: Sequence[Row], names: tuple[str, str] = ("chosen", "rejected")
) -> tuple[Messages, Messages, Messages]:
    """
    What two whole conversations begin with, and how each goes on.

    Args:
        prompt (`str` or messages): that which the data name as the prompt; it must be among the shared turns.
        chosen, rejected (messages): the conversations; `names` are those of their columns.

    Raises:
        ValueError: it is not, or they share nothing.
    """
    # turns are compared as they are encoded: a table gives those of one column keys that another's have not
    chosen, rejected = read_messages(chosen), read_messages(rejected)
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    common = [dict(turn) for turn in chosen[:shared]]
    turns = read_messages(decode_list(prompt)) if not isinstance(prompt, str) else None
    if turns is None:
        found = any(str(turn.get("content")).strip() == prompt.strip() for turn in common)
    else:
        found = turns in (common[: len(turns)], common[-len(turns) :])
    if not found:
        raise ValueError(
            f"`{names[0]}` and `{names[1]}` are whole conversations, which begin otherwise than the prompt says. "
            "Correct the prompt, or leave it out."
        )
    return common, [dict(turn) for turn in chosen[shared:]], [dict(turn) for turn in rejected[shared:]]


def _read_turn(turn: Any, where: str) -> dict[str, Any]:
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} must be a turn with `from` and `value`, got {type(turn).__name__}.")
    if "from" not in turn:
        if "role" in turn:
            return dict(turn)
        raise ValueError(f"{where} has no `from`; it has {', '.join(turn)}.")
    speaker, value = turn["from"], turn.get("value")
    if not isinstance(value, str):
        raise ValueError(f"{where}: `value` must be text, got {type(value).__name__}.")
    if speaker in FUNCTION_CALL:
        return {"role": "assistant", "content": "", "tool_calls": read_calls(value, where)}
    if not isinstance(speaker, str) or speaker not in SHAREGPT_ROLES:
        known = ", ".join([*SHAREGPT_ROLES, *FUNCTION_CALL])
        raise ValueError(f"{where} is from {speaker!r:.80}; known are {known}.")
    return {"role": SHAREGPT_ROLES[speaker], "content": value}


def read_calls(value: Any, where: str) -> list[dict[str, Any]]:
    """
    Calls of functions, `{"name", "arguments"}` or a list of these, also as JSON text, as transformers writes them.

    Raises:
        ValueError: it is something else.
    """
    try:
        decoded = json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise ValueError(f"{where} is a call of a function that is not JSON ({error}).") from error
    calls = decoded if isinstance(decoded, list) else [decoded]
    for call in calls:
        if not isinstance(call, Mapping) or "name" not in call:
            raise ValueError(f"{where} must be calls with `name` and `arguments`, got {call!r:.60}.")
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
        for call in calls
    ]
