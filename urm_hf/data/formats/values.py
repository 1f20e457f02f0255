"""What the readers of formats ask of values: that they are there, of a type, numbers, messages, lists."""

import json
import math
from collections.abc import Mapping
from typing import Any

from urm_hf.data import content
from urm_hf.data.formats.format import Row

_TYPE_NAMES: dict[type, str] = {str: "text", list: "a list", dict: "an object"}


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
