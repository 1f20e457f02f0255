"""Where a row keeps the question that its answers are for, and whether one would be left unread."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urm_hf.data.content import Messages, is_messages, messages_from_json, read_messages, split_turns
from urm_hf.data.errors import RowError

# Names under which published data keep the question. A column `prompt` of text may be continued as text, which is
# TRL's standard form; under any of these other names it is what a user says.
QUESTION_COLUMNS = (
    "question",
    "instruction",
    "query",
    "problem",
    "context",
    "history",
    "input",
    "user",
    "user_prompt",
)
SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
_QUESTION_WORDS = {
    *("prompt", "prompts", "question", "questions", "instruct", "instruction", "instructions", "query", "queries"),
    *("problem", "request", "input", "inputs", "context", "history", "dialog", "dialogue", "conversation", "post"),
    *("user", "human", "task", "title", "ask", "system"),
}
_NOT_QUESTIONS = {
    *("id", "ids", "hash", "source", "type", "name", "length", "len", "tokens", "model", "score", "language", "lang"),
    *("category", "url", "index", "idx", "key", "date", "count", "num", "rating", "response", "answer", "split"),
}


@dataclass(frozen=True)
class Question:
    """
    Args:
        value (`str` or messages): what the answers answer.
        chat (`bool`): whether text is what a user says, and not to be continued as text.
        system (`str`, *optional*): a system turn that stands in a column of its own.
        columns (`tuple[str]`): what was read.
    """

    value: str | Messages
    chat: bool
    system: str | None
    columns: tuple[str, ...]

    @property
    def turns(self) -> Messages:
        turns = split_turns(self.value) if isinstance(self.value, str) else list(self.value)
        return with_system(turns, self.system, self.columns)


def find_question(row: Mapping[str, Any], column: str | None = None) -> Question | None:
    """
    The question of a row; None if it has none.

    Args:
        column (`str`, *optional*): where it is. Default: in `prompt`, else under one of the names that data have.

    Raises:
        RowError: the column that was named is not there or null, or several columns could be the question.
    """
    name = column or "prompt"
    if column is not None and row.get(column) is None:
        state = "null" if column in row else "missing"
        raise RowError(f"column `{column}` is {state}; the row has {', '.join(map(str, row))}.", column=column)
    system = read_system(row, name)
    value = row.get(name)
    others = [other for other in QUESTION_COLUMNS if other != name and _says_something(row.get(other))]
    if value is not None and (column is not None or value != "" or not others):
        chat = name in QUESTION_COLUMNS or system is not None
        return Question(_read(name, value), chat, system or None, (name, *SYSTEM_COLUMNS))
    if not others:
        return None
    if others == ["instruction", "input"] and all(isinstance(row[other], str) for other in others):
        joined = f"{row['instruction']}\n{row['input']}"  # as LLaMA-Factory joins them
        return Question(joined, True, system or None, ("instruction", "input", *SYSTEM_COLUMNS))
    if len(others) > 1:
        told = " and ".join(f"`{other}`" for other in others)
        raise RowError(
            f"its question could be in {told}. Say which holds it (the prompt column), and rename or drop the others, "
            "or join them in a column `prompt`.",
            column=others[0],
        )
    return Question(_read(others[0], row[others[0]]), True, system or None, (others[0], *SYSTEM_COLUMNS))


def read_system(row: Mapping[str, Any], prompt_column: str | None = None) -> str | None:
    """The text of a column with the system turn, also if it is empty; None if there is no such column."""
    for name in SYSTEM_COLUMNS:
        if name != prompt_column and isinstance(row.get(name), str):
            return row[name]
    return None


def with_system(turns: Messages, system: str | None, columns: Iterable[str] = SYSTEM_COLUMNS) -> Messages:
    """`turns`, begun by the system turn of a column of its own, if they have none."""
    if not system or not system.strip():
        return turns
    if turns and turns[0].get("role") in ("system", "developer"):
        if turns[0].get("content") == system:
            return turns
        raise RowError("it has a system turn, and another one in a column of its own; leave one of them out.")
    return [{"role": "system", "content": system}, *turns]


def check_unread(row: Mapping[str, Any], read: Sequence[str], text: str | None):
    """
    Raises:
        RowError: a column that looks like a question is not among those read, and what it says not in `text`. Of a
            row without any question (`text` is None), also columns that look like one to a guess.
    """
    for name, value in row.items():
        if name in read or name in SYSTEM_COLUMNS or not _says_something(value):
            continue
        suspected = name in QUESTION_COLUMNS or name == "prompt"
        if text is None:
            suspected = suspected or _looks_like_question(name, value)
        if not suspected or (text is not None and _contained(value, text)):
            continue
        raise RowError(
            f"column `{name}` looks like the question, or a part of it, and would not be read. Name it as the prompt "
            f"column, rename it to `prompt`, or drop it if it says nothing to the answer.",
            column=name,
        )


def _read(column: str, value: Any) -> str | Messages:
    value = messages_from_json(value)
    if isinstance(value, str):
        return value
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise RowError(f"`{column}` must be text or messages, got {type(value).__name__}.", column=column)
    return read_messages(value)


def _says_something(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else is_messages(value)


def _contained(value: Any, text: str) -> bool:
    if isinstance(value, str):
        return value.strip() in text
    return all(str(message.get("content") or "").strip() in text for message in value)


def _looks_like_question(name: Any, value: Any) -> bool:
    words = [word for word in re.split(r"[^a-z]+", str(name).lower()) if word]
    if not words or words[-1] in _NOT_QUESTIONS:
        return False
    asks = isinstance(value, str) and value.rstrip().endswith("?") and len(value.split()) > 1
    return asks or not _QUESTION_WORDS.isdisjoint(words)
