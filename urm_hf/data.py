"""Tables of rows from files or the Hub, with errors that name the line."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset

FILE_TYPES = (".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet", ".csv")


def read_jsonl(path: str | Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSON-lines file, plain or gzipped."""
    opener = gzip.open if str(path).endswith(".gz") else open
    with opener(path, "rt", encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: not JSON ({error}).") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected an object, got {type(row).__name__}.")
            yield row


def load_rows(
    name_or_path: str, split: str | None = None, config: str | None = None, revision: str | None = None
) -> Dataset:
    """
    A dataset from a local file (JSON lines, Parquet, CSV) or the Hub.

    Args:
        split: of a Hub dataset, its split; of a file with a column `split`, the rows that have this value there.

    Raises:
        ValueError: the file or the split holds no rows; FileNotFoundError: neither a file nor a Hub name.
    """
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix or path.is_absolute() or len(path.parts) > 2:
            raise FileNotFoundError(f"{name_or_path}: no such file.")
        return load_dataset(name_or_path, config, split=split or "train", revision=revision)
    if str(path).endswith((".jsonl", ".jsonl.gz", ".json", ".json.gz")):
        rows = list(read_jsonl(path))
        if split is not None and any("split" in row for row in rows):
            found = sorted({str(row.get("split")) for row in rows})
            rows = [row for row in rows if row.get("split") == split]
            if not rows:
                raise ValueError(f"{path} has no rows with split {split!r}; it has {', '.join(found)}.")
        if not rows:
            raise ValueError(f"{path} holds no rows.")
        return Dataset.from_list(rows)
    if path.suffix not in (".parquet", ".csv"):
        raise ValueError(f"{path}: unknown type of file; expected one of {', '.join(FILE_TYPES)}.")
    dataset = load_dataset(path.suffix[1:], data_files=str(path), split="train")
    if split is not None and "split" in dataset.column_names:
        dataset = dataset.filter(lambda value: value == split, input_columns="split")
    if not len(dataset):
        raise ValueError(f"{path} holds no rows" + (f" with split {split!r}." if split else "."))
    return dataset
