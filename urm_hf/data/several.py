"""Whether what was given for conversations is a list of them, and not a single one."""

from collections.abc import Iterable, Mapping
from typing import Any


def check_several(conversations: Iterable[Any]) -> Iterable[Any]:
    """
    The conversations, unless they are a single one: iterated over, it would give scores of its keys or letters.

    Raises:
        ValueError: a row, a text, the messages of one conversation, its token ids, or a table of pandas.
    """
    remedy = None
    if isinstance(conversations, Mapping):
        remedy = "one row, or a table of columns: pass a list of rows, `score([row])`"
    elif isinstance(conversations, (str, bytes)):
        remedy = "one text: pass a list of texts, `score([text])`"
    elif type(conversations).__name__ == "DataFrame":  # of pandas, which gives the names of its columns
        remedy = 'a table of pandas: pass its rows, `score(table.to_dict("records"))`'
    elif isinstance(conversations, (list, tuple)) and conversations:
        if all(map(_is_message, conversations)):
            remedy = "the messages of one conversation: pass a list of conversations, `score([messages])`"
        elif all(isinstance(row, int) for row in conversations):
            remedy = 'the token ids of one conversation: pass rows, `score([{"input_ids": ids}])`'
    if remedy is not None:
        raise ValueError(f"`conversations` must be a list of conversations, but this is {remedy}.")
    return conversations


def _is_message(row: Any) -> bool:
    """Whether it has the columns of a message and of no row; a row may well have a column `role` of its own."""
    rows_have = ("prompt", "messages", "text", "input_ids", "completion", "response")
    return isinstance(row, Mapping) and "role" in row and not any(name in row for name in rows_have)
