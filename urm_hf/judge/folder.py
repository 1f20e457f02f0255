"""
The replies of a judging job, each on disk before the next is asked for: what was paid for is never asked for twice.

Beside the output stands a folder with `manifest.json`, what the requests depend on, and `replies.jsonl`, a line for
each request that came to an end. It stays when the job is done: the same command then asks only for what failed.
"""

import json
import os
import threading
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from urm_hf.data.outputs import json_lines, json_text
from urm_hf.scoring.jobs.manifests import keep_manifest

Request = tuple[int, int]  # row, order


def replies_path(out: Path) -> Path:
    """The folder beside an output in which its replies are kept."""
    return out.with_name(f"{out.name}.replies")


class ReplyFolder:
    """
    A context in which no other process writes to the folder.

    Args:
        out (`Path`): the file to write in the end.
        manifest (`dict`): what the replies depend on; those of another are refused.

    Attributes:
        records (`dict`): by row and order, of every request that is finished, whether with a reply or not.

    Raises:
        ValueError: on entering, if another process works there, replies are of another job, or a line is damaged.
    """

    def __init__(self, out: Path, manifest: dict[str, Any]):
        self.path = replies_path(out)
        self.manifest = json.loads(json_text(manifest))  # as it is read again: tuples become lists
        self.file = self.path / "replies.jsonl"
        self.records: dict[Request, dict[str, Any]] = {}
        self.writing = threading.Lock()

    def __enter__(self) -> "ReplyFolder":
        self.path.mkdir(parents=True, exist_ok=True)
        self.lock = FileLock(self.path / "lock")
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(f"another process works on {self.path}; wait for it, or end it.") from None
        try:
            begun = self.file.is_file() and self.file.stat().st_size > 0
            keep_manifest(self.path / "manifest.json", self.manifest, begun, "replies")
            self._read()
            self.appended = open(self.file, "ab")
        except BaseException:
            self.lock.release()
            raise
        return self

    def __exit__(self, *error):
        self.appended.close()
        self.lock.release()

    def append(self, record: dict[str, Any]):
        """
        Keeps what became of a request; from any thread.

        Args:
            record (`dict`): with `row` and `order`, which say of what request it is.
        """
        with self.writing:
            self.appended.write(json_lines([record]))
            self.appended.flush()
            os.fsync(self.appended.fileno())
            self.records[record["row"], record["order"]] = record

    def _read(self):
        """The records; what a process that was killed left of a last line is cut off."""
        if not self.file.is_file():
            return
        content = self.file.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                record = json.loads(line)
                self.records[record["row"], record["order"]] = record
            except (ValueError, TypeError, LookupError):
                raise ValueError(f"{self.file}, line {number}, is damaged; delete that line.") from None
        if whole < len(content):
            os.truncate(self.file, whole)
