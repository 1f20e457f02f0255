"""
The conversations in a row of any common form, and what of the row is written beside the score of each.

A row with one conversation stays as it is. One with several (`chosen` and `rejected`, or a list of candidates) becomes
one row for each: its other columns, `answer_column`, `answer_index`, `response`, and a candidate's own fields.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from urm_hf.data.conversations import ANSWER_COLUMNS

SINGLE = ("messages", "text", "input_ids", *ANSWER_COLUMNS)  # columns that make a row a conversation
SEVERAL = (("chosen", "rejected"), ("candidates",), ("responses",), ("completions",))  # that hold more than one
AS_TEXT = ("chosen", "rejected", "completions")  # beside a prompt of plain text, continue it without a chat template
ANSWER_KEYS = ("response", "completion", "content", "text")  # where a candidate's answer is


@dataclass(frozen=True)
class Columns:
    """Which columns to read; None finds them by their usual names."""

    prompt: str = "prompt"
    answers: tuple[str, ...] | None = None
    messages: str | None = None
    text: str | None = None


def conversations_of(row: dict[str, Any], columns: Columns) -> list[tuple[dict[str, Any], Any]]:
    """
    Each conversation of a row: the columns to write beside its score, and a form that the scorer reads.

    Raises:
        ValueError: a column that was named is not there, or an answer is of no known form.
    """
    for kind in ("messages", "text"):
        name = getattr(columns, kind)
        if name is not None:
            return [(row, {kind: _from_json(_value(row, name))})]
    names = columns.answers or _answer_columns(row)
    if names is None:
        return [(row, _read_json_messages(row))]
    prompt = row.get(columns.prompt)
    found = [(name, *answer) for name in names for answer in _answers(name, _value(row, name))]
    if len(names) == 1 and not isinstance(row[names[0]], list) or len(names) == 1 and _is_messages(row[names[0]]):
        return [(row, _conversation(prompt, names[0], found[0][2]))]
    rest = {name: value for name, value in row.items() if name not in names}
    return [
        (_joined(rest, name, number, answer, own), _conversation(prompt, name, answer))
        for name, number, answer, own in found
    ]


def _answer_columns(row: dict[str, Any]) -> tuple[str, ...] | None:
    if any(row.get(name) is not None for name in SINGLE):
        return None
    return next((names for names in SEVERAL if all(row.get(name) is not None for name in names)), None)


def _value(row: dict[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise ValueError(f"column `{name}` is missing or null; the row has {', '.join(sorted(row))}.")
    return row[name]


def _answers(name: str, value: Any) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Number, answer and further fields of each candidate of a column."""
    candidates = value if isinstance(value, list) and not _is_messages(value) else [value]
    if not candidates:
        raise ValueError(f"`{name}` is empty.")
    for number, candidate in enumerate(candidates):
        own: dict[str, Any] = {}
        if isinstance(candidate, dict):
            key = next((key for key in ANSWER_KEYS if candidate.get(key) is not None), None)
            if key is None:
                raise ValueError(f"`{name}`[{number}] has no {' or '.join(ANSWER_KEYS)}; it has {sorted(candidate)}.")
            own = {other: inner for other, inner in candidate.items() if other != key}
            candidate = candidate[key]
        yield number, candidate, own


def _conversation(prompt: Any, name: str, answer: Any) -> dict[str, Any]:
    if prompt is not None:
        return {"prompt": prompt, ("completion" if name in AS_TEXT else "response"): answer}
    return {"messages": answer} if isinstance(answer, list) else {"prompt": "", "completion": answer}


def _joined(rest: dict[str, Any], name: str, number: int, answer: Any, own: dict[str, Any]) -> dict[str, Any]:
    new = {"answer_column": name, "answer_index": number, "response": answer, **own}
    both = sorted(rest.keys() & new.keys())
    if both:
        raise ValueError(f"the columns {both} would be written twice, for the row and for its answer; rename them.")
    return rest | new


def _is_messages(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(m, dict) and "role" in m for m in value)


def _from_json(value: Any) -> Any:
    """Messages as CSV files hold them, read; anything else as it is."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def _read_json_messages(row: dict[str, Any]) -> dict[str, Any]:
    return row if row.get("messages") is None else row | {"messages": _from_json(row["messages"])}
