"""An error that knows which row of the data it is about."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike

from jinja2 import TemplateError


class RowError(ValueError):
    """
    A row that cannot be read or used.

    Args:
        message (`str`): one line with the place, what is wrong there and what to do.
        file (`str` or `PathLike`, *optional*): the file or dataset.
        row (`int`, *optional*): number of the row, from 0.
        line (`int`, *optional*): number of the line of a text file, from 1.
        column (`str`, *optional*): name of the column.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | PathLike | None = None,
        row: int | None = None,
        line: int | None = None,
        column: str | None = None,
    ):
        super().__init__(message)
        self.file = None if file is None else str(file)
        self.row, self.line, self.column = row, line, column

    def __reduce__(self):  # errors cross processes pickled, by default without their keyword arguments
        return _rebuilt, (str(self), vars(self))

    def at(self, place: str, *, file: str | PathLike | None = None, row: int | None = None) -> "RowError":
        """The same error, told with its place before it."""
        error = RowError(f"{place}: {self}", file=file or self.file, row=row, line=self.line, column=self.column)
        error.row = self.row if row is None else row
        return error


def as_row_error(error: Exception) -> RowError:
    """
    Anything that went wrong with one row, in one line that a reader of the data understands.

    Templates are programs, and a row can make them, or a tokenizer, raise whatever Python raises.
    """
    if isinstance(error, RowError):
        return error
    told = " ".join(str(error).split())
    if isinstance(error, TemplateError):  # also what a template says by itself, with `raise_exception`
        return RowError(f"the chat template cannot write it: {told.rstrip('.')}.")
    if isinstance(error, RecursionError):
        return RowError("it is nested too deeply to be read.")
    if isinstance(error, UnicodeError):
        return RowError(
            "it holds half of a surrogate pair, which is no character: its text was cut, or wrongly decoded."
        )
    if type(error) is ValueError:
        return RowError(told)
    return RowError(f"it cannot be encoded ({type(error).__name__}: {told:.200}).")


@contextmanager
def telling_rows() -> Iterator[None]:
    """Whatever goes wrong inside is a `RowError`."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        told = as_row_error(error)
        if told is error:
            raise
        raise told from error


def _rebuilt(message: str, attributes: dict) -> RowError:
    error = RowError(message)
    vars(error).update(attributes)
    return error
