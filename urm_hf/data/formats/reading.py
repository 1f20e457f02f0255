"""
A row of any known format becomes a canonical row, or one clear error: never less than it holds.

The format of a row is the one that needs most of its columns; of a canonical one and another, the canonical one. Two
others are an error, and so is a column that looks like a part of the question and that nobody reads.
"""

import difflib
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

from urm_hf.data.errors import telling_rows
from urm_hf.data.formats import (
    benchmarks,
    chat_logs,
    preferences,
    questions,
    rankings,
    ratings,
    trl,
)
from urm_hf.data.formats.format import Format, Row
from urm_hf.data.formats.question_columns import find_texts, is_question, may_ask
from urm_hf.data.formats.values import is_messages, is_text

FORMATS: tuple[Format, ...] = (
    *ratings.FORMATS,
    *preferences.FORMATS,
    *rankings.FORMATS,
    *benchmarks.FORMATS,
    *chat_logs.FORMATS,
    *questions.FORMATS,
    *trl.FORMATS,
)
BY_NAME = {one.name: one for one in FORMATS}
IDS = BY_NAME["input-ids"]
USUAL = "`messages`; or `prompt` and `response`; or `prompt`, `chosen` and `rejected`"


def read_row(row: Row, name: str | None = None, ignore: Collection[str] = ()) -> dict[str, Any]:
    """
    The canonical row: a conversation, a pair, or `prompt` with `candidates`, and all columns that were not read.

    Args:
        row (`Mapping`): as it was published.
        name (`str`, *optional*): of its format. Default: the one that its columns and values tell.
        ignore (`Collection[str]`, defaults to none): columns that no format looks at; they are kept.

    Raises:
        ValueError: it is of no format or of two, a value is of another shape than the format's, or a column that
            looks like a part of the question is left unread.
    """
    seen = drop_columns(row, ignore)
    return read_with(find_format(seen, name), row, ignore)


def drop_columns(row: Row, names: Collection[str]) -> dict[str, Any]:
    """The row without these columns."""
    return {column: value for column, value in row.items() if column not in names}


def read_with(read_by: Format, row: Row, ignore: Collection[str] = ()) -> dict[str, Any]:
    """The same, by a format that is known already."""
    seen = drop_columns(row, ignore)
    with telling_rows():  # a value of another type than any format has makes its reader raise what Python raises
        read = read_by.read(seen)
    check_unread(seen, read_by, read)
    ignored = {column: row[column] for column in row if column in ignore and column not in read}
    return {**read, **ignored} if ignored else read


def find_format(row: Row, name: str | None = None) -> Format:
    """
    The format of a row.

    Raises:
        ValueError: there is none, or two that read equally many columns; the nearest are named.
    """
    if name is not None:
        return _check_columns(row, format_named(name))
    fitting = _fitting(row, [column for column in row if row[column] is not None])
    if not fitting:  # a null in a column that a format needs is told by its reader
        fitting = _fitting(row, list(row))
    if not fitting:
        columns = ", ".join(map(str, row)) or "(none)"
        raise ValueError(
            f"{_missing_prompt(row)}the columns {columns} are of no known format. {_tell_nearest(row)}rename the "
            f"columns: {USUAL} are the usual ones. `urm score` takes others by `--prompt-column`, `--answer-columns`."
        )
    if IDS in fitting:  # they were made from what else is there, which is not read a second time
        return IDS
    # the one that explains most of the row: `prompt` alone would fit nearly all of them
    most = max(len(one.columns) for one in fitting)
    best = [one for one in fitting if len(one.columns) == most]
    best = [one for one in best if one in trl.FORMATS] or best
    if len(best) > 1:
        told = " and ".join(f"{one.name} ({', '.join(one.columns)})" for one in best)
        raise ValueError(
            f"the columns {', '.join(map(str, row))} fit two formats equally: {told}. Name one with `format`."
        )
    return best[0]


def format_named(name: str) -> Format:
    """
    Raises:
        ValueError: there is no format of this name.
    """
    if name not in BY_NAME:
        near = difflib.get_close_matches(name, BY_NAME, n=3, cutoff=0.4)
        told = f"did you mean {' or '.join(near)}? " if near else ""
        raise ValueError(f"`format` {name!r} is unknown: {told}All are {', '.join(BY_NAME)}.")
    return BY_NAME[name]


def check_unread(row: Row, read_by: Format, read: Row):
    """
    Raises:
        ValueError: a column that looks like a part of the question was not read, and what it says is not in what was.
    """
    if read_by is IDS:
        return
    columns = (*read_by.columns, *read_by.optional)
    asks = may_ask if _is_bare(read) else is_question
    suspects = [column for column in row if column not in columns and asks(row, column)]
    if not suspects:
        return
    texts = list(find_texts({column: value for column, value in read.items() if column not in suspects}))
    for column in suspects:
        unread = next((text for text in find_texts({column: row[column]}) if not _is_said(text, texts)), None)
        if unread is not None:
            raise ValueError(
                f"column `{column}` ({unread!r:.50}) looks like a part of the question, and the format {read_by.name} "
                f"does not read it. Name another format with `format`, rename it (the question is `prompt`), or "
                "leave it out with `ignore_columns`."
            )


def _is_bare(read: Row) -> bool:
    """Whether a canonical row holds two texts and no question: it may stand in a column of any name."""
    return "prompt" not in read and all(is_text(read.get(side)) for side in ("chosen", "rejected"))


def kind_of(row: Row) -> str:
    """What a canonical row holds: "conversation", "pair", "answers" (several a side), "candidates", or "prompt"."""
    if row.get("chosen") is not None and row.get("rejected") is not None:
        several = isinstance(row["chosen"], (list, tuple)) and not is_messages(row["chosen"])
        return "answers" if several else "pair"
    if any(row.get(name) is not None for name in ("candidates", "responses", "completions")):
        return "candidates"
    if any(row.get(name) is not None for name in ("messages", "text", "input_ids", "response", "completion")):
        return "conversation"
    return "prompt"


def _is_said(text: str, texts: Sequence[str]) -> bool:
    """Whether a text is a part of another one, but for blanks."""
    wanted = re.sub(r"\s+", " ", text)
    return any(wanted in re.sub(r"\s+", " ", said) for said in texts)


@lru_cache(maxsize=4096)
def _by_columns(columns: frozenset[Any]) -> tuple[Format, ...]:
    return tuple(one for one in FORMATS if one.detected and columns.issuperset(one.columns))


def _fitting(row: Row, columns: Sequence[Any]) -> list[Format]:
    return [one for one in _by_columns(frozenset(columns)) if one.matches(row)]


def _check_columns(row: Row, named: Format) -> Format:
    missing = [column for column in named.columns if column not in row]
    if missing:
        raise ValueError(
            f"the format {named.name} needs the columns {', '.join(named.columns)}; the row has no "
            f"{', '.join(missing)} (it has {', '.join(map(str, row))})."
        )
    return named


def _missing_prompt(row: Row) -> str:
    answer = next((name for name in ("response", "completion") if row.get(name) is not None), None)
    return f"`prompt` is missing beside `{answer}`: " if answer is not None and "prompt" not in row else ""


def _tell_nearest(row: Row) -> str:
    """The three formats that share most columns with a row and what each needs; empty if none shares any."""
    there = {str(column) for column in row}

    def distance(one: Format) -> tuple[float, int]:
        shared = sum(column in there for column in one.columns)
        return -shared / len(one.columns), -shared

    near = sorted((one for one in FORMATS if one.detected and distance(one)[1] < 0), key=distance)[:3]
    listed = "; ".join(f"{one.name} ({', '.join(one.columns)})" for one in near)
    return f"Nearest: {listed}. Name one with `format` (`--format`), or " if listed else "To have it read, "
