"""What a format is, and what its readers share: the row in, the canonical row out, nothing in between lost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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


def find_candidates(row: Row) -> list[Any] | None:
    """
    The candidates of a canonical row; None where it has no list of them. A row of messages may carry along a column of
    that name with anything in it.
    """
    candidates = row.get("candidates")
    return candidates if isinstance(candidates, list) else None
