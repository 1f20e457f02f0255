"""What a format is, and what its readers share: the row in, the canonical row out, nothing in between lost."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urm_hf.data import content

Row = Mapping[str, Any]
Messages = list[dict[str, Any]]

UNDECIDED = "undecided"  # column of a canonical row whose answers nobody preferred: why


@dataclass(frozen=True)
class Format:
    """
    One form in which rows are published.

    Args:
        name (`str`): what `--format` calls it.
        source (`str`): where such rows are published.
        columns (`tuple[str, ...]`): columns without which it is not this format.
        matches (`Callable[[Row], bool]`): whether the values have this format's shapes, where its columns alone do not
            tell it from others.
        read (`Callable[[Row], dict]`): makes the canonical row: a conversation (`messages`, `text`, `input_ids`, or
            `prompt` with `response` or `completion`), a pair (`prompt`, `chosen`, `rejected`), or `prompt` with
            `candidates`. All other columns are kept. It raises ValueError for what it cannot read.
        optional (`tuple[str, ...]`, defaults to none): columns that it reads where they are there.
        detected (`bool`, defaults to `True`): whether it is found by its columns, or read only if it is named.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    matches: Callable[[Row], bool]
    read: Callable[[Row], dict[str, Any]]
    optional: tuple[str, ...] = ()
    detected: bool = True


def fits_any_values(row: Row) -> bool:
    """For formats that their columns tell."""
    return True


def keep_row(row: Row) -> dict[str, Any]:
    """The reading of a format that is canonical already."""
    return dict(row)


def replace_columns(row: Row, read: Sequence[str], new: Mapping[str, Any]) -> dict[str, Any]:
    """
    The row with `new` columns in place of those that were read.

    Raises:
        ValueError: a column that was not read has the name of a new one.
    """
    # a null holds nothing that could be lost: tables give it to rows of one format for the columns of another
    empty = {name for name in new if row.get(name) is None}
    kept = {name: value for name, value in row.items() if name not in read and name not in empty}
    both = sorted(kept.keys() & new.keys())
    if both:
        raise ValueError(
            f"the columns {', '.join(both)} would be overwritten by what is read from the row; rename them."
        )
    return {**new, **kept}


def require(row: Row, column: str, *kinds: type) -> Any:
    """
    The value of a column that must not be null.

    Raises:
        ValueError: it is missing, null, or not of these types.
    """
    value = row.get(column)
    if value is None:
        state = "null" if column in row else "missing"
        raise ValueError(f"`{column}` is {state}. Fill it in, or leave the row out.")
    if kinds and not isinstance(value, kinds):
        expected = " or ".join(_TYPE_NAMES.get(kind, kind.__name__) for kind in kinds)
        raise ValueError(f"`{column}` must be {expected}, got {type(value).__name__} {value!r:.60}.")
    return value


def require_number(row: Row, column: str) -> float:
    """The value of a column as a finite number; text that is one counts, as CSV files and some datasets hold it."""
    value = require(row, column)
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError(f"`{column}` must be a finite number, got {value!r:.60}.")
    return number


def require_choice(row: Row, column: str, choices: Mapping[Any, Any]) -> Any:
    """What the value of a column stands for in `choices`; text of a number counts as that number."""
    value = require(row, column)
    key = int(value) if isinstance(value, str) and value.strip().lstrip("-").isdigit() else value
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, (dict, list)) or key not in choices:
        known = ", ".join(map(repr, choices))
        raise ValueError(f"`{column}` must be one of {known}, got {value!r:.60}.")
    return choices[key]


def decode_list(value: Any) -> Any:
    """The list in a text that holds one as JSON, as CSV files and some datasets keep it; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return value
    try:
        decoded = json.loads(value)
    except ValueError:
        return value
    return decoded if isinstance(decoded, list) else value


def is_messages(value: Any) -> bool:
    """Whether a value is a list of turns with roles, also as JSON text."""
    return content.is_messages(decode_list(value))


def is_text(value: Any) -> bool:
    return isinstance(value, str) and not is_messages(value)


def is_list_of(value: Any, kind: type | tuple[type, ...]) -> bool:
    value = decode_list(value)
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(part, kind) for part in value)


def find_candidates(row: Row) -> list[Any] | None:
    """
    The candidates of a canonical row; None where it has no list of them. A row of messages may carry along a column of
    that name with anything in it.
    """
    candidates = row.get("candidates")
    return candidates if isinstance(candidates, list) else None


_TYPE_NAMES: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
