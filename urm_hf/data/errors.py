"""An error that knows which row of the data it is about."""

from os import PathLike


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
