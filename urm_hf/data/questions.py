"""The question of a canonical row, or of one whose question stands in a column that somebody named."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urm_hf.data.content import Messages, messages_from_json, read_messages, split_turns
from urm_hf.data.errors import RowError
from urm_hf.data.formats.question_columns import SYSTEM_COLUMNS, find_texts, is_question
from urm_hf.data.formats.trl import is_system_prompt


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
        column (`str`, *optional*): where it is, beside a system prompt. Default: in `prompt`.

    Raises:
        RowError: the column that was named is not there or null.
    """
    if column is None:
        value = row.get("prompt")
        return None if value is None else Question(_read("prompt", value), False, None, ("prompt",))
    if row.get(column) is None:
        state = "null" if column in row else "missing"
        raise RowError(f"column `{column}` is {state}; the row has {', '.join(map(str, row))}.", column=column)
    system = read_system(row, column)
    chat = column != "prompt" or system is not None
    return Question(_read(column, row[column]), chat, system or None, (column, *SYSTEM_COLUMNS))


def read_system(row: Mapping[str, Any], prompt_column: str | None = None) -> str | None:
    """The text of a column with the system prompt, also if it is empty; None if there is no such column."""
    for name in SYSTEM_COLUMNS:
        value = row.get(name)
        if name != prompt_column and isinstance(value, str) and is_system_prompt({**row, "system": value}):
            return value
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


def check_unread(
    row: Mapping[str, Any],
    read: Sequence[str],
    text: str,
    asks: Callable[[Mapping[str, Any], Any], bool] = is_question,
):
    """
    Of a row whose columns are named.

    Args:
        read (`Sequence[str]`): the columns that are read. text (`str`): what they say before the answer.
        asks (`Callable`, defaults to [`is_question`]): which of the others could be the question.

    Raises:
        RowError: a column that looks like a question is not among those read, and what it says not in `text`.
    """
    for name, value in row.items():
        if name in read or name in SYSTEM_COLUMNS or not asks(row, name):
            continue
        if all(said in text for said in find_texts(value)):
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
