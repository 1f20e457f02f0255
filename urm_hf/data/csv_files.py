"""Rows of CSV files: every cell is text as it stands there, `00501` and `true` too; an empty cell is null."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from urm_hf.data.errors import RowError
from urm_hf.data.files import decode_line, has_ending, read_lines
from urm_hf.data.items import BadRow, Item

LONGEST_CELL = 1 << 30  # of the csv module by default 128 KiB, which a conversation may well be longer than


def read_csv_items(path: str | Path) -> Iterator[Item]:
    """
    Rows below the header. A row with more or fewer cells than the header is a bad one.

    Raises:
        ValueError: the header is not usable, or quotes do not match. The line is named.
    """
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    delimiter = "\t" if has_ending(path, (".tsv", ".tsv.gz")) else ","
    lines = (decode_line(path, number, line) for number, line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _read_cells(reader, path)
    while header == []:
        header = _read_cells(reader, path)
    if header is None:
        return
    _check_header(header, path, delimiter)
    row, begins = 0, reader.line_num + 1
    while (cells := _read_cells(reader, path)) is not None:
        if cells:  # a blank line is no row
            yield _item(header, cells, path, row, begins, delimiter)
            row += 1
        begins = reader.line_num + 1


def _read_cells(reader: Any, path: str | Path) -> list[str] | None:
    begins = reader.line_num + 1
    try:
        return next(reader, None)
    except csv.Error as error:
        told = f"the row that begins here is not CSV ({error}, at line {reader.line_num}). Are its quotes closed, and "
        told += "doubled inside a cell?"
        if "new-line character" in str(error):  # Python speaks of how a program should open the file
            told = f"lines end in carriage returns alone. Convert the file: tr '\\r' '\\n' < {path} > lines.csv"
        raise RowError(f"{path}, line {begins}: {told}", file=path, line=begins) from error


def _item(header: list[str], cells: list[str], path: str | Path, row: int, line: int, delimiter: str) -> Item:
    if len(cells) == len(header):
        return {name: cell or None for name, cell in zip(header, cells, strict=True)}
    message = (
        f"{path}, line {line}: {len(cells)} cells in row {row}, but the header has {len(header)}. Put cells that hold "
        f"a {'tab' if delimiter != ',' else 'comma'}, a quote or a line break in quotes."
    )
    return BadRow(RowError(message, file=path, row=row, line=line), delimiter.join(cells).encode())


def _check_header(header: list[str], path: str | Path, delimiter: str):
    names = {",": "comma", ";": "semicolon", "\t": "tab"}
    others = [sign for sign in names if sign != delimiter and sign in header[0]]
    if len(header) == 1 and others:
        file_type = {",": ", or name it .csv", "\t": ", or name it .tsv"}.get(others[0], "")
        raise ValueError(
            f"{path}: the header has no {names[delimiter]}, but {names[others[0]]}s: {header[0]!r:.80}. Save the file "
            f"with {names[delimiter]}s{file_type}."
        )
    for name in header:
        if header.count(name) > 1:
            raise ValueError(f"{path}: the header names column {name!r} twice; rename one.")
