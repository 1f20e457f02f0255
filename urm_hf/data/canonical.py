"""Datasets of any known format as datasets of canonical rows: one for each pair or rated answer, if that is wanted."""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pyarrow
from datasets import Dataset

from urm_hf.data.column_types import build_table, column_types
from urm_hf.data.formats.format import UNDECIDED, keep_row
from urm_hf.data.formats.reading import drop_columns, find_format, format_named, kind_of, read_row
from urm_hf.data.json_column import dataset_of
from urm_hf.data.row_numbers import NUMBER

logger = logging.getLogger(__name__)

Expand = Callable[[Mapping[str, Any]], list[dict[str, Any]]]
ROWS_AT_ONCE = 1024  # as objects of Python


def read_dataset(
    dataset: Dataset,
    expand: Expand | None = None,
    *,
    format: str | None = None,
    ignore: Collection[str] = (),
    name: str = "",
    numbered: bool = False,
) -> Dataset:
    """
    The dataset with canonical rows.

    A row that cannot be read stays as it is: whoever uses it tells what is wrong, or leaves it out. Rows that prefer
    no answer are left out where pairs are wanted, and counted with what says so.

    Args:
        dataset (`Dataset`): rows of any known format.
        expand (`Callable`, *optional*): makes rows of a canonical row, such as [`rank_pairs`] or
            [`split_candidates`]. Default: the canonical row itself.
        format (`str`, *optional*): of the rows, by name; default: what each row tells.
        ignore (`Collection[str]`, defaults to none): columns that are not looked at.
        name (`str`, *optional*): what the count of rows that are left out calls the dataset.
        numbered (`bool`, *optional*, defaults to `False`): whether new rows carry the numbers of those they are made
            of (`urm_hf.data.row_numbers`).

    Raises:
        ValueError: no row is left, or there is no such format.
    """
    if format is not None:
        format_named(format)
    if format is None and not ignore and _is_canonical(dataset):
        return dataset
    left_out: Counter[str] = Counter()
    given = _Numbered(dataset) if numbered else dataset
    # read twice: Arrow wants the types of all rows before the first is stored, and all rows do not fit in memory
    types = column_types(_read_rows(given, expand, format, ignore, left_out))
    rows = _read_rows(given, expand, format, ignore, Counter())
    tables = []
    while some := list(islice(rows, ROWS_AT_ONCE)):
        tables.append(build_table(some, types))
    told = "; ".join(f"{count} because {why}" for why, count in left_out.most_common())
    if not tables:
        raise ValueError(f"{name or 'the dataset'}: none of its {len(dataset)} rows prefers an answer: {told}.")
    if left_out:
        message = "%s: left out %d of %d rows that prefer no answer: %s."
        logger.warning(message, name or "the dataset", left_out.total(), len(dataset), told)
    return dataset_of(pyarrow.concat_tables(tables))


def _is_canonical(dataset: Dataset) -> bool:
    """Whether every row is read as it is: a file may hold rows of several formats, and any of its rows the first."""
    return all(map(_stays, dataset))


def _stays(row: Mapping[str, Any]) -> bool:
    try:
        return find_format(row).read is keep_row and kind_of(row) != "candidates"
    except ValueError:
        return True  # told, or left out, by whoever uses the row


class _Numbered:
    """The rows of a dataset with their numbers, as often as they are read."""

    def __init__(self, dataset: Dataset):
        self.dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({NUMBER: number, **row} for number, row in enumerate(self.dataset))


def _read_rows(
    dataset: Iterable[dict[str, Any]],
    expand: Expand | None,
    format: str | None,
    ignore: Collection[str],
    left_out: Counter[str],
) -> Iterator[dict[str, Any]]:
    for whole in dataset:
        row = drop_columns(whole, ignore)  # who reads the dataset does not look at them either
        try:
            read = read_row(row, format)
            rows = [read] if expand is None else expand(read)
        except ValueError:
            yield row  # not told here: whoever uses the rows tells all that are wrong at once, or leaves them out
            continue
        if not rows:
            left_out[str(read.get(UNDECIDED) or "its candidates have one score")] += 1
        yield from rows
