"""
The number that a row has where it comes from, carried along while rows are left out, paired, drawn and shuffled.

What is wrong with a row is told with this number, so that you find the row in your file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow
from datasets import Dataset

NUMBER = "_urm_row"  # a column of datasets on their way into training; no format reads it, and it is never encoded


def number_table(table: pyarrow.Table) -> pyarrow.Table:
    """The table with the numbers of its rows."""
    return table.append_column(NUMBER, pyarrow.array(range(len(table)), pyarrow.int64()))


def numbers_of(dataset: Dataset) -> Sequence[int]:
    """The number of each row of a dataset; where it carries none, the place in the dataset."""
    return list(dataset[NUMBER]) if NUMBER in dataset.column_names else range(len(dataset))


def drop_number(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it was written."""
    return {column: value for column, value in row.items() if column != NUMBER}
