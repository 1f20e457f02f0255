"""Rows to score, of a file or a Hub dataset: counted and fingerprinted, then read one after the other."""

import gzip
import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import load_dataset
from pyarrow import csv, parquet

from urm_hf.data.tables import local_file, row_of


class Source:
    """
    Args:
        name (`str`): a file, or a dataset of the Hub.
        split, config, revision (*optional*): as in `urm_hf.data.tables.load_rows`.
        strict: whether a line that is no row is an error at once, not only when it is read.

    Attributes:
        count: rows; of a JSON-lines file, lines that are not blank. fingerprint: changes with the data.

    Raises:
        ValueError: there are no rows, or the file is of an unknown type. FileNotFoundError: there is no such file.
    """

    def __init__(
        self,
        name: str,
        split: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        strict: bool = False,
    ):
        self.name, self.split, self.config, self.revision = name, split, config, revision
        self.path = Path(name)
        if local_file(name) is None:
            self.dataset = load_dataset(name, config, split=split or "train", revision=revision)
            self.count, self.fingerprint = len(self.dataset), self.dataset._fingerprint
        else:
            self.dataset = None
            self.fingerprint = digest_of([self.path])
            self.count = sum(1 for item in self.items() if not strict or self.row(item) is not None)
        if not self.count:
            chosen = "" if split is None else f" with split {split!r}"
            raise ValueError(f"{name} holds no rows{chosen}.")

    def items(self) -> Iterator[Any]:
        """Rows as far as they need to be read to be counted; `row` makes dictionaries of them."""
        if self.dataset is not None:
            yield from self.dataset
        elif self.path.suffix == ".parquet":
            batches = parquet.ParquetFile(self.path).iter_batches(batch_size=1024)
            yield from self._of_split(row for batch in batches for row in batch.to_pylist())
        elif self.path.suffix == ".csv":
            batches = csv.read_csv(self.path).to_batches(max_chunksize=1024)
            yield from self._of_split(row for batch in batches for row in batch.to_pylist())
        else:
            lines = ((number, line) for number, line in enumerate(self._lines(), start=1) if line.strip())
            yield from lines if self.split is None else self._lines_of_split(lines)

    def row(self, item: Any) -> dict[str, Any]:
        """
        The row of an item.

        Raises:
            ValueError: a line is not a JSON object; it is named.
        """
        if isinstance(item, dict):
            return item
        number, line = item
        return row_of(line, self.name, number)

    def _lines(self) -> Iterator[bytes]:
        with (gzip.open if self.path.suffix == ".gz" else open)(self.path, "rb") as file:
            yield from file

    def _of_split(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """The rows of the split. A file without a column `split` is all "train"."""
        return (row for row in rows if self.split is None or row.get("split", "train") == self.split)

    def _lines_of_split(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for item in lines:
            try:
                chosen = self.row(item).get("split", "train") == self.split
            except ValueError:
                chosen = True  # told, or counted, where it would be scored
            if chosen:
                yield item


class PartReader:
    """Parts of so many rows, read in any order, but without going back if it is their own."""

    def __init__(self, source: Source, rows_per_part: int):
        self.source, self.size = source, rows_per_part
        self.items, self.next = source.items(), 0

    def part(self, number: int) -> list[Any]:
        if number < self.next:
            self.items, self.next = self.source.items(), 0
        skipped = (number - self.next) * self.size
        next(islice(self.items, skipped, skipped), None)
        self.next = number + 1
        return list(islice(self.items, self.size))


def digest_of(paths: Iterable[Path], named: bool = False) -> str:
    """Of the contents of files, one after the other; `named`: and of their names."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        if named:
            digest.update(path.name.encode())
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
