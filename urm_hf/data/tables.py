"""Tables of rows from files or the Hub, with errors that name the line."""

import gzip
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from pyarrow import csv, parquet

logger = logging.getLogger(__name__)

FILE_TYPES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv")


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file, plain or gzipped."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            yield row_of(line, path, number)


def read_json(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a JSON file: one array of objects, or JSON lines."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        text = file.read().lstrip()
    if not text.startswith("["):
        return list(read_jsonl(path))
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}).") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise ValueError(f"{path}, row {number}: expected an object, got {type(row).__name__}.")
    return rows


def row_of(line: str | bytes, path: str | Path, number: int) -> dict[str, Any]:
    """The row in line `number` of a JSON-lines file; a ValueError names the line if it holds none."""
    try:
        row = json.loads(line)
    except ValueError as error:  # bytes that are not UTF-8 too
        raise ValueError(f"{path}, line {number}: not JSON ({error}).") from error
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: expected an object, got {type(row).__name__}.")
    return row


def local_file(name: str) -> Path | None:
    """
    The file of that name; None if it can only be a dataset of the Hub.

    Raises:
        FileNotFoundError: it is neither. ValueError: a file of an unknown type.
    """
    path = Path(name)
    if not path.is_file():
        if path.suffix or path.is_absolute() or len(path.parts) > 2:
            raise FileNotFoundError(f"{name}: no such file.")
        return None
    if not path.name.endswith(FILE_TYPES):
        raise ValueError(f"{path}: unknown type of file; expected one of {', '.join(FILE_TYPES)}.")
    return path


def load_rows(
    name_or_path: str, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Dataset:
    """
    A dataset from a local file (JSON lines, a JSON array, Parquet, CSV) or the Hub.

    Args:
        split: of a Hub dataset, its split (default "train"); of a file with a column `split`, the rows that have this
            value there. A file without such a column is all "train".

    Raises:
        ValueError: the file or the split holds no rows; FileNotFoundError: neither a file nor a Hub name.
    """
    path = local_file(name_or_path)
    if path is None:
        return load_dataset(name_or_path, config, split=split or "train", revision=revision)
    if path.suffix == ".parquet":
        dataset = Dataset(parquet.read_table(path))
    elif path.suffix == ".csv":
        dataset = Dataset(csv.read_csv(path))
    elif path.name.endswith((".json", ".json.gz")):
        dataset = _table(read_json(path), path)
    else:
        dataset = _table(list(read_jsonl(path)), path)
    return _rows_of_split(dataset, split, path)


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
                    rows.append({"prompt": row["instruction"], "response": completion["response"], "ratings": ratings})
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


def _rows_of_split(dataset: Dataset, split: str | None, path: Path) -> Dataset:
    if not len(dataset):
        raise ValueError(f"{path} holds no rows.")
    if split is None:
        return dataset
    if "split" not in dataset.column_names:
        if split != "train":
            raise ValueError(f"{path} has no column `split`, so that it has no {split!r} rows; name another file.")
        return dataset
    splits = dataset["split"]
    rows = [number for number, value in enumerate(splits) if value == split]
    if not rows:
        found = ", ".join(sorted({str(value) for value in splits}))
        raise ValueError(f"{path} has no rows with split {split!r}; it has {found}.")
    return dataset.select(rows)


def _table(rows: list[dict[str, Any]], path: Path) -> Dataset:
    """Rows as a dataset. Where a column holds lists in some rows and numbers in others, the numbers become lists."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    for name in columns:
        first: dict[type, int] = {}
        for number, row in enumerate(rows):
            if row.get(name) is not None:
                first.setdefault(type(row[name]), number)
        kinds = set(first)
        if dict in kinds and len(kinds) == 1:
            for key in {key for row in rows for key in row.get(name) or {}}:
                _numbers_to_lists([row[name] for row in rows if row.get(name)], key)
        elif list in kinds and kinds <= {list, int, float}:
            _numbers_to_lists(rows, name)
        elif len(kinds - {int, float}) > (0 if kinds & {int, float} else 1):
            found = ", ".join(f"{kind.__name__} (first in row {first[kind]})" for kind in first)
            raise ValueError(f"{path}: column `{name}` mixes {found}; give it one form in all rows.")
    return Dataset.from_list([{name: row.get(name) for name in columns} for row in rows])


def _numbers_to_lists(rows: list[dict[str, Any]], name: str):
    values = [row.get(name) for row in rows]
    if any(isinstance(value, list) for value in values):
        for row in rows:
            if isinstance(row.get(name), (int, float)):
                row[name] = [row[name]]
