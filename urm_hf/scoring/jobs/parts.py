"""
A folder of finished parts beside the output file, from which an interrupted job goes on.

A part is a range of input rows. Its files are written under other names and then renamed, the rows last: what has its
name is whole. Whoever works on a part holds its lock, which the system releases in whatever way the process ends.

Several runs may work on one folder. Each can end at any moment, by an error or a signal, without harm to the others:
nobody removes a folder in which somebody works, and whoever finds that it is gone makes it anew.
"""

import gzip
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from filelock import FileLock, Timeout
from pyarrow import parquet

from urm_hf.data.column_types import build_table, column_types
from urm_hf.data.csv_output import find_columns, write_csv
from urm_hf.data.outputs import check_output_file, json_lines, json_text, write_whole
from urm_hf.scoring.jobs.finished import remember_finished
from urm_hf.scoring.jobs.manifests import keep_manifest, read_manifest_file, refuse_mixing

logger = logging.getLogger(__name__)

OUTPUT_TYPES = (".jsonl", ".jsonl.gz", ".json", ".csv", ".parquet")
COUNTS = (
    "rows",
    "scored",
    "skipped",
    "truncated",
    "duplicates",
    "tokens",
    "plain_tokens",
    "computed_tokens",
    "other_form",
    "untrained_gate",
)
KINDS = ("rows", "skipped", "counts")  # files of a part
TRIES = 20  # to write to a folder that others remove as they end
OURS = ("part-*", "merged.*", "manifest.json*", "*.lock", "stdin.*")  # all that a folder of parts may hold


class DamagedParts(ValueError):
    """Parts are not what was written. They are removed, so that the same command computes them again."""


class PartFolder:
    """
    The finished parts of a job, from which its output is made.

    Args:
        out (`Path`): the file to write in the end; its ending says how: JSON lines, gzipped or not, CSV, or
            Parquet.
        manifest (`dict`): what the parts depend on; parts of another manifest are refused.
        parts (`int`): how many there are.
        overwrite (`bool`, *optional*, defaults to `False`): whether a side file of rows that an earlier job skipped is
            removed where this one skips none; else it stays, for it may be of anybody.
    """

    def __init__(self, out: Path, manifest: dict[str, Any], parts: int, *, overwrite: bool = False):
        check_output(out)
        self.out, self.manifest, self.parts = out, json.loads(json_text(manifest)), parts
        self.path, self.overwrite = parts_path(out), overwrite
        self.skipped_path = out.with_name(f"{out.name}.skipped.jsonl")
        self._out_before = _identify(out)

    def open(self):
        """
        Makes the folder, or checks that its parts are of this job, and undamaged.

        Raises:
            ValueError: they are of another; what differs is named.
        """
        self._persist(self._open)

    def _open(self):
        self.path.mkdir(parents=True, exist_ok=True)
        if self._record.is_file():
            refuse_mixing(self.path, read_manifest_file(self._record)["manifest"], self.manifest, "parts")
            return
        with self._lock("manifest"):
            begun = any(self.path.glob("part-*.rows"))
            keep_manifest(self.path / "manifest.json", self.manifest, begun, "parts")
        self._discard_damaged()

    def depend_on(self, manifest: dict[str, Any]):
        """Says what the parts depend on, where it was not known when the place of the output was checked."""
        self.manifest = json.loads(json_text(manifest))

    def read_manifest(self) -> dict[str, Any]:
        """What the parts that are there depend on."""
        return read_manifest_file(self.path / "manifest.json")

    def has_parts(self) -> bool:
        """Whether there are parts that are still to be joined."""
        return not self._record.is_file() and any(self.path.glob("part-*.rows"))

    def discard(self):
        """Removes the parts, but not what others may be working on."""
        for path in self.path.glob("part-*.rows"):
            path.unlink(missing_ok=True)
        self.remove_if_empty()

    def done(self, number: int) -> bool:
        """Whether a part is finished; its rows are renamed last, so that they stand for all its files."""
        return self._file(number, "rows").is_file()

    def missing(self) -> list[int]:
        """Parts that nobody has finished. None once they are merged, though their files may be gone by then."""
        if self._record.is_file():
            return []
        return [number for number in range(self.parts) if not self.done(number)]

    def finished_by_another(self) -> bool:
        """Whether another run has written the output since this one began, and removed the parts."""
        return not self._record.is_file() and _identify(self.out) not in (None, self._out_before)

    def claim(self, number: int) -> FileLock | None:
        """The lock of a part that nobody has done or works on, held; else None."""
        if not (self.path / "manifest.json").is_file():
            if self.finished_by_another():
                return None
            self.open()  # a run that had finished nothing ended, and took the folder with it
        lock = self._lock(f"part-{number:06}")
        try:
            lock.acquire(timeout=0)
        except (Timeout, FileNotFoundError):  # somebody works on it, or has just removed the folder
            return None
        # asked again: another process may have done it between the look at what is missing and the lock
        if self.done(number) or self.finished_by_another():
            lock.release()
            return None
        return lock

    def write(self, number: int, rows: list[dict[str, Any]], skipped: list[dict[str, Any]], counts: dict[str, int]):
        """
        Finishes a part.

        Args:
            number (`int`): which.
            rows (`list[dict]`): for the output.
            skipped (`list[dict]`): for the side file.
            counts (`dict[str, int]`): by [`COUNTS`].
        """
        self._persist(lambda: self._write(number, rows, skipped, counts))

    def _write(self, number: int, rows: list[dict[str, Any]], skipped: list[dict[str, Any]], counts: dict[str, int]):
        if not (self.path / "manifest.json").is_file():
            self.open()
        contents = {"rows": json_lines(rows), "skipped": json_lines(skipped)}
        digests = {kind: _digest(content) for kind, content in contents.items()}
        receipt = {"part": number, "job": self._job(), "digests": digests, "counts": counts}
        write_whole(self._file(number, "skipped"), contents["skipped"])
        write_whole(self._file(number, "counts"), json_text(receipt).encode())
        write_whole(self._file(number, "rows"), contents["rows"])

    def _persist(self, write: Callable[[], None]):
        """Again if the folder was gone: a run that had finished nothing ended, and took it with it."""
        for attempt in range(TRIES):
            try:
                return write()
            except FileNotFoundError:
                if attempt + 1 == TRIES:
                    raise

    def is_intact(self, number: int) -> bool:
        """Whether a finished part is, byte for byte, what was written as this part of this job."""
        try:
            receipt = json.loads(self._file(number, "counts").read_bytes())
            digests = {kind: _digest(self._file(number, kind).read_bytes()) for kind in receipt["digests"]}
            return [receipt["part"], receipt["job"], receipt["digests"]] == [number, self._job(), digests]
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            return False

    def counts(self) -> dict[str, int]:
        """What was counted in all parts together."""
        each = [json.loads(self._file(number, "counts").read_bytes())["counts"] for number in range(self.parts)]
        return {name: sum(counts.get(name, 0) for counts in each) for name in COUNTS}

    def merge(self) -> dict[str, int] | None:
        """
        Writes the output file from the parts and removes them; None if another process did.

        It can be interrupted: outputs are written in the folder first, then `merged.json` says that they are whole,
        and from then on they only need to be moved into place.

        Raises:
            DamagedParts: parts are not what was written.
        """
        if not self._begun():
            return None
        lock = self._lock("merge")
        try:
            lock.acquire()
        except FileNotFoundError:  # between the look and the lock another process merged, and removed the folder
            return None
        try:
            if self._begun():  # asked again: another process may have merged while this one waited for the lock
                if not self._record.is_file():
                    self._write_merged()
                record = read_manifest_file(self._record)
                counts = record["counts"]
                self._move_into_place()
                skipped = self.skipped_path if counts["skipped"] else None
                remember_finished(self.out, skipped, record["manifest"], counts)
                self._remove()
                return counts
        finally:
            lock.release()
        self.remove_if_empty()
        return None

    def _write_merged(self):
        """The outputs, whole, in this folder; then the record of them."""
        self._discard_damaged()
        if missing := self.missing():
            raise DamagedParts(
                f"{len(missing)} of {self.parts} parts in {self.path} are not what was written there, and were "
                "removed; the same command computes them again."
            )
        counts = self.counts()
        if self.out.suffix == ".parquet":
            self._merge_parquet(self.path / "merged.rows")
        elif self.out.suffix == ".csv":
            # read twice: the last row may have a column that no other has
            columns = find_columns(self._all_rows())
            write_csv(self.path / "merged.rows", self._all_rows(), columns)
        else:
            self._append("rows", compressed=self.out.suffix == ".gz")
        if counts["skipped"]:
            self._append("skipped")
        record = {"manifest": read_manifest_file(self.path / "manifest.json"), "counts": counts}
        write_whole(self._record, json_text(record).encode())

    def _begun(self) -> bool:
        return self._record.is_file() or (self.path / "manifest.json").is_file()

    def _move_into_place(self):
        """The rows last: where they are, all is."""
        skipped, rows = self.path / "merged.skipped", self.path / "merged.rows"
        if skipped.is_file():
            skipped.replace(self.skipped_path)
        elif self.overwrite and rows.is_file():
            self.skipped_path.unlink(missing_ok=True)
        if rows.is_file():
            rows.replace(self.out)

    def _remove(self):
        """The record last: it tells whoever comes in between that all is done."""
        for pattern in ("part-*.rows", "part-*", "merged.rows", "merged.skipped"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)
        (self.path / "manifest.json").unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_empty(self):
        """Removes a folder without finished parts, unless another run is at work in it."""
        remove_if_empty(self.path)

    def _discard_damaged(self):
        """Parts that were changed after they had been written are missing from now on."""
        if self._record.is_file():
            return
        damaged = [number for number in range(self.parts) if self.done(number) and not self.is_intact(number)]
        for number in damaged:
            logger.warning("%s: part %d is not what was written there; it is computed again.", self.path, number)
            self._file(number, "rows").unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        """Its presence tells that the merged outputs are whole."""
        return self.path / "merged.json"

    def _job(self) -> str:
        """What tells parts of this job from those of others."""
        return _digest((self.path / "manifest.json").read_bytes())

    def _append(self, kind: str, *, compressed: bool = False):
        with open(self.path / f"merged.{kind}", "wb") as raw:
            # no name and no time: equal rows, equal bytes
            file: IO[bytes] = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compressed else raw  # type: ignore[assignment]
            for number in range(self.parts):
                with open(self._file(number, kind), "rb") as part:
                    shutil.copyfileobj(part, file)
            if compressed:
                file.close()
            raw.flush()
            os.fsync(raw.fileno())  # before the record says that it is whole: a power cut could keep only the record

    def _merge_parquet(self, path: Path):
        """A row group for each part. Whatever the columns hold, they are written: some of them as JSON text."""
        # read twice: Parquet wants the types of its columns first, and the last row may change one
        types = column_types(self._all_rows())
        with parquet.ParquetWriter(path, build_table([], types).schema) as writer:
            for number in range(self.parts):
                writer.write_table(build_table(list(self._rows(number)), types))

    def _all_rows(self) -> Iterator[dict[str, Any]]:
        for number in range(self.parts):
            yield from self._rows(number)

    def _rows(self, number: int) -> Iterator[dict[str, Any]]:
        with open(self._file(number, "rows"), "rb") as file:
            yield from map(json.loads, file)

    def _file(self, number: int, kind: str) -> Path:
        return self.path / f"part-{number:06}.{kind}"

    def _lock(self, name: str) -> FileLock:
        return FileLock(self.path / f"{name}.lock")


def parts_path(out: Path) -> Path:
    """The folder of parts beside an output."""
    return out.with_name(f"{out.name}.parts")


def remove_if_empty(folder: Path):
    """Removes a folder of parts in which none is finished, unless a run is at work there, or it holds other things."""
    if not folder.is_dir() or (folder / "merged.json").is_file() or any(folder.glob("part-*.rows")):
        return
    if _find_foreign(folder):
        return
    held = []
    try:
        # all locks of parts at once: whoever holds one is at work, and nobody can begin while these are held
        for path in folder.glob("part-*.lock"):
            held.append(FileLock(path))
            held[-1].acquire(timeout=0)
        shutil.rmtree(folder, ignore_errors=True)
    except (Timeout, OSError):
        return
    finally:
        for lock in held:
            lock.release()


def check_output(out: Path):
    """
    Raises:
        ValueError: the ending of the file's name is not one that can be written.
    """
    if not out.name.endswith(OUTPUT_TYPES):
        raise ValueError(f"{out}: unknown type of output; expected one of {', '.join(OUTPUT_TYPES)}.")


def check_job_output(out: Path, inputs: list[str], *, skips: bool, overwrite: bool):
    """
    Whether a job may write its output, its side file and its parts, asked before anything is loaded.

    Args:
        out (`Path`): the output.
        inputs (`list[str]`): the data, which must not be overwritten.
        skips (`bool`): whether rows may go to the side file.
        overwrite (`bool`): whether existing files may be replaced.

    Raises:
        ValueError: they exist, or are an input. OSError: they cannot be written.
    """
    check_output(out)
    parts, side = parts_path(out), out.with_name(f"{out.name}.skipped.jsonl")
    if (parts / "merged.json").is_file():
        overwrite = True  # an interrupted merge may have moved its outputs already
    check_output_file(out, inputs, overwrite=overwrite)
    check_output_file(side, inputs, overwrite=overwrite or not skips)
    if os.path.lexists(parts) and not parts.is_dir():
        raise ValueError(f"{parts} is a file, where a folder for parts is needed; move it away.")
    if parts.is_dir() and (others := _find_foreign(parts)):
        raise ValueError(f"{parts} would be removed in the end, but holds {others[0]}; move it away.")


def _find_foreign(folder: Path) -> list[str]:
    """Names of what in a folder of parts is not a job's."""
    # one listing: another run may write a part between two
    names = [path.name for path in folder.iterdir()]
    return sorted(name for name in names if not any(fnmatchcase(name, pattern) for pattern in OURS))


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _identify(path: Path) -> tuple[int, ...] | None:
    """What changes when a file is replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
