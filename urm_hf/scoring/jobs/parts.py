"""
A folder of finished parts beside the output file, from which an interrupted job goes on.

A part is a range of input rows. Its files are written under other names and then renamed, the rows last: what has its
name is whole. Whoever works on a part holds its lock, which the system releases in whatever way the process ends.
"""

import gzip
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pyarrow import parquet

from urm_hf.data.column_types import build_table, column_types

OUTPUT_TYPES = (".jsonl", ".jsonl.gz", ".json", ".parquet")
COUNTS = ("rows", "scored", "skipped", "truncated", "duplicates", "tokens", "plain_tokens", "computed_tokens")


class PartFolder:
    """
    Args:
        out: the file to write in the end; its ending says how: JSON lines, gzipped or not, or Parquet.
        manifest: what the parts depend on; parts of another manifest are refused.
        parts: how many there are.
    """

    def __init__(self, out: Path, manifest: dict[str, Any], parts: int):
        check_output(out)
        self.out, self.manifest, self.parts = out, json.loads(json.dumps(manifest)), parts
        self.path = parts_path(out)
        self.skipped_path = out.with_name(f"{out.name}.skipped.jsonl")

    def open(self):
        """
        Makes the folder, or checks that its parts are of this job.

        Raises:
            ValueError: they are of another; what differs is named.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        with self._lock("manifest"):
            begun = any(self.path.glob("part-*.rows"))
            keep_manifest(self.path / "manifest.json", self.manifest, begun, "parts")

    def done(self, number: int) -> bool:
        return self._file(number, "rows").is_file()

    def missing(self) -> list[int]:
        return [number for number in range(self.parts) if not self.done(number)]

    def claim(self, number: int) -> FileLock | None:
        """The lock of a part that nobody has done or works on, held; else None."""
        lock = self._lock(f"part-{number:06}")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        if self.done(number):
            lock.release()
            return None
        return lock

    def write(self, number: int, rows: list[dict[str, Any]], skipped: list[dict[str, Any]], counts: dict[str, int]):
        """Finishes a part."""
        write_whole(self._file(number, "skipped"), json_lines(skipped))
        write_whole(self._file(number, "counts"), json.dumps(counts).encode())
        write_whole(self._file(number, "rows"), json_lines(rows))

    def counts(self) -> dict[str, int]:
        """Sums over the parts."""
        each = [json.loads(self._file(number, "counts").read_text()) for number in range(self.parts)]
        return {name: sum(counts[name] for counts in each) for name in COUNTS}

    def merge(self) -> dict[str, int] | None:
        """Writes the output file from the parts and removes them; None if another process did."""
        manifest = self.path / "manifest.json"
        if not manifest.is_file():
            return None
        with self._lock("merge"):
            if not manifest.is_file():
                return None
            counts = self.counts()
            temporary = self.out.with_name(self.out.name + ".tmp")
            if self.out.suffix == ".parquet":
                self._merge_parquet(temporary)
            else:
                self._append("rows", temporary, compressed=self.out.suffix == ".gz")
            if counts["skipped"]:
                self._append("skipped", self.skipped_path)
            else:
                self.skipped_path.unlink(missing_ok=True)
            temporary.replace(self.out)
            for kind in ("rows", "*"):  # rows first: a part has all its files, or is missing
                for file in self.path.glob(f"part-*.{kind}"):
                    file.unlink()
            manifest.unlink()  # last: no part is ever without it
        shutil.rmtree(self.path, ignore_errors=True)
        return counts

    def remove_if_empty(self):
        if self.path.is_dir() and not list(self.path.glob("part-*.rows")):
            shutil.rmtree(self.path, ignore_errors=True)

    def _append(self, kind: str, path: Path, compressed: bool = False):
        with open(path, "wb") as raw:
            file = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compressed else raw  # equal rows, equal bytes
            for number in range(self.parts):
                with open(self._file(number, kind), "rb") as part:
                    shutil.copyfileobj(part, file)
            if compressed:
                file.close()

    def _merge_parquet(self, path: Path):
        """A row group for each part. Whatever the columns hold, they are written: some of them as JSON text."""
        types = column_types(row for number in range(self.parts) for row in self._rows(number))
        with parquet.ParquetWriter(path, build_table([], types).schema) as writer:
            for number in range(self.parts):
                writer.write_table(build_table(list(self._rows(number)), types))

    def _rows(self, number: int) -> Iterator[dict[str, Any]]:
        with open(self._file(number, "rows"), "rb") as file:
            yield from map(json.loads, file)

    def _file(self, number: int, kind: str) -> Path:
        return self.path / f"part-{number:06}.{kind}"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.path / f"{name}.lock")


def parts_path(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def check_output(out: Path):
    if not out.name.endswith(OUTPUT_TYPES):
        raise ValueError(f"{out}: unknown type of output; expected one of {', '.join(OUTPUT_TYPES)}.")


def keep_manifest(file: Path, manifest: dict[str, Any], begun: bool, what: str):
    """
    Writes what the work in a folder depends on, or checks that it is still the same.

    Args:
        begun: whether there is any work (`what`, for the error) that another manifest would spoil.

    Raises:
        ValueError: the manifest is another one; what differs is named.
    """
    before = json.loads(file.read_text()) if file.is_file() else {}
    changed = [name for name in {**before, **manifest} if before.get(name) != manifest.get(name)]
    if changed and begun:
        told = "; ".join(f"{n} was {before.get(n)}, is {manifest.get(n)}" for n in changed)
        raise ValueError(
            f"{file.parent} holds {what} of another job, which must not be mixed ({told}). Go on with the old "
            "settings, delete the folder, or write to another file."
        )
    if changed:
        write_whole(file, json.dumps(manifest, indent=1).encode())


def json_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Half a surrogate pair, which UTF-8 has no bytes for, is written as JSON's escape."""
    lines = (json.dumps(row, ensure_ascii=False, default=str) for row in rows)
    return b"".join(line.encode(errors="backslashreplace") + b"\n" for line in lines)


def write_whole(path: Path, content: bytes):
    """Under another name first, so that what has its name is whole."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
