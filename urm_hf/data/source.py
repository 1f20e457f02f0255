"""Rows of a file or a Hub dataset, for every command: counted and fingerprinted, then read one after the other."""

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetsError

from urm_hf.data.csv_files import read_csv_items
from urm_hf.data.files import TABLES_OF_TEXT, has_ending, local_file
from urm_hf.data.items import BadRow, Item, Line
from urm_hf.data.json_files import parse_line, read_json_items
from urm_hf.data.parquet_files import read_parquet_items

MOST_NAMED = 10  # values of the column `split` that an error lists


class Source:
    """
    Args:
        name (`str`): a file, or a dataset of the Hub.
        split, config, revision (*optional*): as in `urm_hf.data.tables.load_rows`.
        strict (`bool`, *optional*, defaults to `False`): whether what is no row is an error at once, not only when it
            is read.
        limit (`int`, *optional*): how many rows there are at most, the first ones.

    Attributes:
        count: rows; of a JSON-lines file, lines that are not blank. fingerprint: changes with the data.

    Raises:
        ValueError: there are no rows, the file is damaged, or of an unknown type. FileNotFoundError: there is no such
            file.
    """

    def __init__(
        self,
        name: str,
        split: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        strict: bool = False,
        limit: int | None = None,
    ):
        self.name, self.split, self.config, self.revision = name, split, config, revision
        self.path, self.limit = Path(name), limit
        if local_file(name) is None:
            whole = _load_from_hub(name, config, split or "train", revision)
            self.dataset = whole if limit is None else whole.select(range(min(limit, len(whole))))
            self.count, self.fingerprint = len(self.dataset), self.dataset._fingerprint
        else:
            self.dataset = None
            # of the bytes, not of the time of change: a copied file is the same data, a touched one too
            self.fingerprint = digest_of([self.path])
            self.count = sum(1 for item in self.items() if not strict or self.row(item) is not None)
        if not self.count:
            raise ValueError(f"{name} holds no rows{self._splits_told()}.")

    def items(self) -> Iterator[Item]:
        """Rows as far as they need to be read to be counted; `row` makes dictionaries of them."""
        return (item for _, item in self.numbered_items())

    def numbered_items(self) -> Iterator[tuple[int, Item]]:
        """The same, each with its number, from 0, among all rows of the file."""
        if self.dataset is not None:
            yield from enumerate(self.dataset)
            return
        numbered = enumerate(read_items(self.path))
        yield from islice((one for one in numbered if self.split is None or self._in_split(one[1])), self.limit)

    def row(self, item: Item) -> dict[str, Any]:
        """
        The row of an item.

        Raises:
            RowError: it is none; file and line are named.
        """
        return row_of(item, self.name)

    def rows(self) -> Iterator[dict[str, Any]]:
        """
        All rows.

        Raises:
            RowError: one of them is none; file and line are named.
        """
        return map(self.row, self.items())

    def _in_split(self, item: Item) -> bool:
        """Whether the split has this row. A file without a column `split` is all "train"."""
        try:
            return self.row(item).get("split", "train") == self.split
        except ValueError:
            return True  # told, or counted, where it would be used

    def _splits_told(self) -> str:
        """Which splits there are instead of the one that has no rows, as the end of an error."""
        if self.split is None or self.dataset is not None:
            return "" if self.split is None else f" with split {self.split!r}"
        rows = [row_of(item, self.name) for item in read_items(self.path)]
        if not any("split" in row for row in rows):
            return f" with split {self.split!r}: it has no column `split`, so that all are 'train'" if rows else ""
        found = sorted({str(row.get("split", "train")) for row in rows})
        listed = ", ".join(found[:MOST_NAMED]) + (", ..." if len(found) > MOST_NAMED else "")
        return f" with split {self.split!r}; it has {listed}"


class PartReader:
    """Parts of so many rows, read in any order, but without going back if it is their own."""

    def __init__(self, source: Source, rows_per_part: int):
        self.source, self.size = source, rows_per_part
        self.items, self.next = source.items(), 0

    def part(self, number: int) -> list[Item]:
        if number < self.next:  # another process has taken the parts between; a file can only be read forwards
            self.items, self.next = self.source.items(), 0
        skipped = (number - self.next) * self.size
        next(islice(self.items, skipped, skipped), None)
        self.next = number + 1
        return list(islice(self.items, self.size))


def read_items(path: str | Path) -> Iterator[Item]:
    """
    What stands for the rows of a file, of the type that its name says, in their order and in constant memory.

    Raises:
        ValueError: the file is damaged. What is wrong with a single row, [`row_of`] tells.
    """
    if has_ending(path, (".parquet",)):
        return read_parquet_items(path)
    return read_csv_items(path) if has_ending(path, TABLES_OF_TEXT) else read_json_items(path)


def row_of(item: Item, name: str | Path) -> dict[str, Any]:
    """
    The row that an item of the file of that name stands for.

    Raises:
        RowError: there is none; file and line are named.
    """
    if isinstance(item, BadRow):
        raise item.error
    return parse_line(name, item) if isinstance(item, Line) else item


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


def _load_from_hub(name: str, config: str | None, split: str, revision: str | None) -> Dataset:
    try:
        return load_dataset(name, config, split=split, revision=revision)
    except ConnectionError as error:
        raise ValueError(f"{name}: no such file here, and the Hub cannot be asked for a dataset ({error}).") from error
    except DatasetsError as error:
        if isinstance(error, (ValueError, OSError)):
            raise
        raise ValueError(f"{name}: `datasets` cannot read it ({' '.join(str(error).split())}).") from error
