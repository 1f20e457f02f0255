"""Rows as CSV for spreadsheets: a column for each number and text, also of those that stand in an object."""

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def flatten_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """
    A row with the values of its objects as columns of their own, and what a cell cannot hold as JSON text.

    ```python
    flatten_row({"id": 1, "attribute_means": {"help": 3.5}, "member_rewards": [1, 2]})
    # {"id": 1, "attribute_means.help": 3.5, "member_rewards": "[1, 2]"}
    ```

    Args:
        row (`Mapping`): strings, numbers, true and false, null, lists and objects.

    Raises:
        ValueError: two columns would have one name.
    """
    flat: dict[str, Any] = {}
    for name, value in row.items():
        cells = {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
        for column, cell in cells.items():
            if column in flat:
                raise ValueError(f"CSV would have two columns {column!r}: rename one, or write .jsonl.")
            flat[column] = _write_cell(cell)
    return flat


def _write_cell(value: Any) -> Any:
    """Python writes True and None in its own way, and others read JSON's."""
    return value if value is None or isinstance(value, (str, float)) else json.dumps(value, ensure_ascii=False)


def find_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of all rows together, in the order in which they are met."""
    return list(dict.fromkeys(name for row in rows for name in flatten_row(row)))


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]], columns: list[str]):
    """
    Writes a header and the rows, in UTF-8. A cell without a value is empty.

    Args:
        path (`Path`): the file.
        rows (`Iterable[Mapping]`): each with some of the columns.
        columns (`list[str]`): what [`find_columns`] found.
    """
    # half a surrogate pair, which JSON may hold and UTF-8 not, is written as Python escapes it
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(flatten_row, rows))
