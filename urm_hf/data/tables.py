"""Tables of rows from files or the Hub, as training and notebooks want them."""

import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow
from datasets import Dataset
from pyarrow import parquet

from urm_hf.data.canonical import read_dataset
from urm_hf.data.column_types import build_table, column_types
from urm_hf.data.errors import RowError
from urm_hf.data.files import FILE_TYPES, has_ending, local_file
from urm_hf.data.formats.reading import format_named
from urm_hf.data.json_column import dataset_of
from urm_hf.data.parquet_files import damage_told
from urm_hf.data.row_numbers import NUMBER, number_table
from urm_hf.data.source import Source, read_items, row_of

__all__ = ["FILE_TYPES", "from_ultrafeedback", "load_rows", "local_file", "read_jsonl"]

logger = logging.getLogger(__name__)

ROWS_AT_ONCE = 1024  # as objects of Python, of a file that becomes a table


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """
    Rows of a JSON-lines file, plain or gzipped, or of any other file that [`load_rows`] reads.

    Raises:
        RowError: a line holds no row; it is named.
    """
    return (row_of(item, path) for item in read_items(path))


def load_rows(
    name_or_path: str,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    format: str | None = None,
    unreadable: list[RowError] | None = None,
    *,
    numbered: bool = False,
) -> Dataset:
    """
    A dataset from a local file (JSON lines, a JSON array, Parquet, CSV) or the Hub.

    Its rows are those of the file. A column whose values Arrow would change (objects with different keys, integers
    over 64 bits, text beside lists) is kept as JSON text inside and decoded when it is read.

    Args:
        name_or_path (`str`): a file, or a dataset of the Hub.
        split (`str`, *optional*): of a Hub dataset, its split (default "train"); of a file with a column `split`, the
            rows that have this value there. A file without such a column is all "train".
        config, revision (`str`, *optional*): of a Hub dataset.
        format (`str`, *optional*): name of the format of the rows (docs/data.md), which are then made canonical.
            Default: rows as they are written; scorer and trainers know the formats by their columns.
        unreadable (`list`, *optional*): gets the errors of what holds no row, which is then left out.
        numbered (`bool`, *optional*, defaults to `False`): whether rows carry their numbers in the file along
            (`urm_hf.data.row_numbers`).

    Raises:
        ValueError: the file or the split holds no rows, or a row is none (a [`RowError`], which names the line).
        FileNotFoundError: neither a file nor a Hub name.
    """
    source = Source(name_or_path, split, config, revision)
    rows = _load_as_written(source, unreadable, numbered=numbered)
    return rows if format is None else read_dataset(rows, format=format_named(format).name, name=name_or_path)


def _load_as_written(source: Source, unreadable: list[RowError] | None, *, numbered: bool) -> Dataset:
    if source.dataset is not None:
        return source.dataset.add_column(NUMBER, range(source.count)) if numbered else source.dataset
    if has_ending(source.path, (".parquet",)):
        with damage_told(source.path):
            table = parquet.read_table(source.path)
        dataset = dataset_of(number_table(table) if numbered else table)
        return dataset if source.split is None else _rows_of_split(dataset, source.split)
    # a first pass for the types, a second for the rows: a column may look like numbers for a million rows
    types = column_types(_readable(source, unreadable, numbered=numbered))
    rows, tables = _readable(source, None if unreadable is None else [], numbered=numbered), []
    while some := list(islice(rows, ROWS_AT_ONCE)):
        tables.append(build_table(some, types))
    if not tables and unreadable:
        raise unreadable[0]  # nothing is left to train on, however rows that cannot be read are treated
    return dataset_of(pyarrow.concat_tables(tables))


def _readable(source: Source, unreadable: list[RowError] | None, *, numbered: bool) -> Iterator[dict[str, Any]]:
    """The rows of a source; what is none is an error, or left out and told in a list."""
    for number, item in source.numbered_items():
        try:
            row = source.row(item)
        except RowError as error:
            if unreadable is None:
                raise
            unreadable.append(error)
            continue
        yield {**row, NUMBER: number} if numbered else row


def from_ultrafeedback(dataset: Dataset) -> Dataset:
    """
    Rows as openbmb/UltraFeedback publishes them, one for each of a prompt's completions.

    `{"instruction": str, "completions": [{"response": str, "annotations": {attribute: {"Rating": "4"}}}]}` becomes
    `{"prompt": str, "response": str, "ratings": {attribute: 4.0}}`; a rating "N/A" becomes null. All else is left
    behind: rationales, critique, scores over all attributes, and the system prompt that the rater did not see.
    Completions without a response are left out and counted.

    Raises:
        ValueError: a row has another form; it is named.
    """
    rows, empty = [], 0
    for number, row in enumerate(dataset):
        try:
            for completion in row["completions"]:
                given = {name: note for name, note in completion["annotations"].items() if note is not None}
                ratings = {name: _ultrafeedback_rating(note["Rating"]) for name, note in given.items()}
                if completion["response"].strip():
                    own = {"prompt": row["instruction"], "response": completion["response"], "ratings": ratings}
                    rows.append({**own, NUMBER: row[NUMBER]} if NUMBER in row else own)
                else:
                    empty += 1
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"row {number} is not of UltraFeedback's form: {error!r}.") from error
    if empty:
        logger.warning("UltraFeedback: left out %d of %d completions, which are empty.", empty, empty + len(rows))
    names = {name for row in rows for name in row["ratings"]}
    return Dataset.from_list([row | {"ratings": {n: row["ratings"].get(n) for n in sorted(names)}} for row in rows])


def _ultrafeedback_rating(value: str) -> float | None:
    return None if value in (None, "N/A") else float(value)


def _rows_of_split(dataset: Dataset, split: str) -> Dataset:
    if "split" not in dataset.column_names:
        return dataset
    return dataset.select([number for number, value in enumerate(dataset["split"]) if value == split])
