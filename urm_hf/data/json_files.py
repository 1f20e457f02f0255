"""Rows of JSON files, one object a line or one array of objects, without the whole file in memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from urm_hf.data.column_types import is_column_name
from urm_hf.data.errors import RowError
from urm_hf.data.files import JSON, decode_line, has_ending, read_lines
from urm_hf.data.items import BadRow, Item, Line

DEEPEST = 200  # brackets in brackets: what reads, renders and writes rows recurses, and Python stops at about 1000
CHUNK = 1 << 16  # characters that are read at once, at least
NOT_SPACE = re.compile(r"[^ \t\r\n]")


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Of a key that stands in it twice, Python's decoder would drop the first value unseen."""
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object names {twice!r:.60} twice; rename or remove one")
    return value


DECODER = json.JSONDecoder(object_pairs_hook=_object_of)


def parse_json(text: str) -> Any:
    """
    Raises:
        ValueError: it is not JSON, or nested too deeply; in a few words that end without a full stop.
    """
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from error
    except RecursionError:
        raise ValueError(f"nested deeper than {DEEPEST} levels") from None
    except ValueError as error:
        raise ValueError(_told(error)) from error
    _check_depth(value, text)
    return value


def _told(error: ValueError) -> str:
    """What the decoder says, but of integers so long that Python refuses to read them something else than its own."""
    return "a number of more than 4300 digits" if "integer string conversion" in str(error) else str(error)


def parse_line(path: str | Path, line: Line) -> dict[str, Any]:
    """
    The row in a line of a JSON-lines file.

    Raises:
        RowError: it holds none; the line is named.
    """
    text = decode_line(path, line.number, line.text, line.row)
    try:
        row = parse_json(text)
    except ValueError as error:
        message = f"{path}, line {line.number}: {error}."
        raise RowError(message, file=path, row=line.row, line=line.number) from error
    if not isinstance(row, dict):
        array = " Of an array of rows the name ends in .json." if isinstance(row, list) else ""
        message = f"{path}, line {line.number}: expected an object, got {type(row).__name__}.{array}"
        raise RowError(message, file=path, row=line.row, line=line.number)
    wrong = _unusable_name(row)
    if wrong is not None:
        raise RowError(f"{path}, line {line.number}: {wrong}.", file=path, row=line.row, line=line.number)
    return row


def _unusable_name(row: dict[str, Any]) -> str | None:
    """What is wrong with the name of a column that no table can hold; told here, before work is done on the row."""
    name = next((name for name in row if not is_column_name(name)), None)
    return None if name is None else f"the column {name!r:.60} has a name that no table can hold; rename it"


def read_json_items(path: str | Path) -> Iterator[Item]:
    """
    Of a `.json` file that begins with `[`, the objects of the array; else the lines that are not blank.

    Raises:
        ValueError: the array is cut short or not JSON, or the file is one object over several lines.
    """
    filled = ((number, line) for number, line in read_lines(path) if line.strip())
    lines = (Line(number, line, row) for row, (number, line) in enumerate(filled))
    first = next(lines, None)
    if first is None:
        return
    if has_ending(path, JSON):
        if first.text.lstrip().startswith(b"["):
            yield from _read_array(path)
            return
        _refuse_object_over_lines(path, first)
    yield first
    yield from lines


def _read_array(path: str | Path) -> Iterator[Item]:
    window = _Window(path)
    window.expect("[")
    row = 0
    if window.next_character() != "]":
        yield _read_element(window, row)
        while window.next_character() == ",":
            window.expect(",")
            row += 1
            yield _read_element(window, row)
    window.expect("]")
    if window.next_character():
        raise window.error("text after the array")


def _read_element(window: "_Window", row: int) -> Item:
    window.next_character()
    line = window.line()
    value, text = window.read_value(row)
    what = None
    try:
        _check_depth(value, text)
    except ValueError as error:
        what = str(error)
    if not isinstance(value, dict):
        what = what or f"expected an object, got {type(value).__name__}"
    what = what or _unusable_name(value)
    if what is None:
        return value
    message = f"{window.path}, row {row}: {what}."
    return BadRow(RowError(message, file=window.path, row=row, line=line), text.encode(errors="backslashreplace"))


class _Window:
    """
    A window of text that moves over a file of JSON.

    The standard library's decoder tells where a value ends. A value that the window cuts is decoded again when the
    window has doubled, so that no part of the file is decoded more often than a few times.
    """

    def __init__(self, path: str | Path):
        self.path = path
        self._lines = read_lines(path)
        self._text, self._at = "", 0
        self._first_line = 1  # where the window begins
        self._whole = False  # whether the end of the file is in the window

    def line(self) -> int:
        """The number of the line that is read next."""
        return self._first_line + self._text.count("\n", 0, self._at)

    def next_character(self) -> str:
        """The next character that is no space, where reading then goes on; "" at the end of the file."""
        while True:
            found = NOT_SPACE.search(self._text, self._at)
            if found:
                self._at = found.start()
                return found[0]
            self._at = len(self._text)
            if self._whole:
                return ""
            self._read_on()

    def expect(self, character: str):
        found = self.next_character()
        if not found:
            raise self.error("not JSON (the array is cut short: its end is missing)")
        if found != character:
            raise self.error(f"not JSON (expected {character!r}, found {found!r})")
        self._at += 1

    def read_value(self, row: int) -> tuple[Any, str]:
        """The value at the place where the window is read, and its text."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise self.error(f"nested deeper than {DEEPEST} levels", row) from None
            except json.JSONDecodeError as error:
                # an error well before the end of the window does not come from the window's cut
                cut = error.pos > len(self._text) - 16 or error.msg.startswith("Unterminated")
                if self._whole or not cut:
                    self._at = error.pos
                    what = f"{error.msg}, or the array is cut short" if cut else error.msg
                    raise self.error(f"not JSON ({what})", row) from error
            except ValueError as error:
                raise self.error(_told(error), row) from error
            else:
                if end < len(self._text) or self._whole:  # a number may go on behind the window
                    text, self._at = self._text[self._at : end], end
                    return value, text
            self._read_on()

    def error(self, what: str, row: int | None = None) -> RowError:
        line = self.line()
        where = f"line {line}" if row is None else f"row {row} (line {line})"
        return RowError(f"{self.path}, {where}: {what}.", file=self.path, row=row, line=line)

    def _read_on(self):
        """Forgets what is read, and reads about as much again as the window holds."""
        self._first_line = self.line()
        parts = [self._text[self._at :]]
        self._at = 0
        wanted, size = max(CHUNK, 2 * len(parts[0])), len(parts[0])
        while size < wanted:
            numbered = next(self._lines, None)
            if numbered is None:
                self._whole = True
                break
            parts.append(decode_line(self.path, *numbered))
            size += len(parts[-1])
        self._text = "".join(parts)


def _refuse_object_over_lines(path: str | Path, first: Line):
    """A ValueError if the first object of a file goes on in further lines, as of a file that holds a single one."""
    try:
        parse_line(path, first)
    except RowError as error:
        if not first.text.lstrip().startswith(b"{"):
            return
        window = _Window(path)
        try:
            window.next_character()
            value, text = window.read_value(0)
        except ValueError:
            return  # the line is damaged, and told where it is read
        if "\n" in text:
            raise ValueError(
                f"{path}: an object over several lines (with {', '.join(sorted(value))}); expected an array of "
                f"objects, or one object a line. `jq -c . {path}` writes one a line; `jq .NAME` takes out an array."
            ) from error


def _check_depth(value: Any, text: str):
    """A ValueError if a value is nested too deeply. Looks only where there are so many brackets."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested deeper than {DEEPEST} levels")
        inner: list[Any] = []
        for one in level:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list):
                inner.extend(one)
        level = inner
