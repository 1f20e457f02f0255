"""Input that must not change while it is read: a job takes hours, and files are rewritten, cut and appended to."""

import os
from pathlib import Path

from urm_hf.data.source import Source, digest_of


class InputChanged(ValueError):
    """The input is not what the job began with."""


class WatchedInput:
    """
    A source's file, compared with what it was when the source was fingerprinted.

    Args:
        source (`Source`): a file; of a dataset of the Hub there is nothing to watch, it is at one commit.
    """

    def __init__(self, source: Source):
        self.source = source
        self.path = Path(source.name) if source.dataset is None else None
        self._status = _read_status(self.path)

    def check_quickly(self):
        """
        Asked before each part is kept: size and time of the file, and its content if these are others.

        Raises:
            InputChanged: the content is another one.
        """
        status = _read_status(self.path)
        if status != self._status:
            self.check()
            self._status = status

    def check(self):
        """
        Asked before parts are joined: the whole content.

        Raises:
            InputChanged: it is another one.
        """
        if self.path is None:
            return
        try:
            same = digest_of([self.path]) == self.source.fingerprint
        except OSError:
            same = False
        if not same:
            raise InputChanged(
                f"{self.path} was changed, moved or removed while it was read. Rows from before and after must not be "
                "mixed: bring back what it was and run the same command again, or begin anew with another output."
            )


def _read_status(path: Path | None) -> tuple[int, ...] | None:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
