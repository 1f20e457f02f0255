"""What stands for a row until it is looked at: reading a file to count it need not understand every line."""

from typing import Any, NamedTuple, TypeAlias

from urm_hf.data.errors import RowError


class Line(NamedTuple):
    """A line of a JSON-lines file. number: from 1, blank lines counted too. row: from 0, without them."""

    number: int
    text: bytes
    row: int


class BadRow(NamedTuple):
    """A place where a row should be, and why there is none."""

    error: RowError
    text: bytes


Item: TypeAlias = dict[str, Any] | Line | BadRow
