"""Where computed things are kept between runs: hidden states of frozen backbones, and which jobs are finished."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FEATURES, FINISHED = "features", "finished"
DAY = 86400.0  # seconds


def default_cache_dir() -> Path:
    """`$URM_CACHE`; or `urm-hf` in `$HF_HOME`, where that is set; or `~/.cache/urm-hf`."""
    if os.environ.get("URM_CACHE"):
        return Path(os.environ["URM_CACHE"]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "urm-hf"
    return Path.home() / ".cache" / "urm-hf"


@dataclass(frozen=True)
class CacheEntry:
    """
    A folder of the cache.

    Args:
        path (`Path`): the folder. kind (`str`): what it holds, in words.
        files (`int`): how many. size (`int`): bytes. used (`float`): when a file in it was written or read last, in
            seconds since 1970; as far as the file system tells.
    """

    path: Path
    kind: str
    files: int
    size: int
    used: float


def list_cache(root: Path) -> list[CacheEntry]:
    """The folders of a cache, the largest first: one for each backbone and precision, and one of finished jobs."""
    features = root / FEATURES
    folders = [(path, "hidden states") for path in features.glob("*") if path.is_dir()]
    if (root / FINISHED).is_dir():
        folders.append((root / FINISHED, "finished jobs"))
    entries = []
    for path, kind in folders:
        states = [file.stat() for file in path.rglob("*") if file.is_file()]
        used = max([path.stat().st_mtime, *(max(state.st_mtime, state.st_atime) for state in states)])
        entries.append(CacheEntry(path, kind, len(states), sum(state.st_size for state in states), used))
    return sorted(entries, key=lambda entry: (-entry.size, str(entry.path)))


def remove_entries(entries: Iterable[CacheEntry]) -> None:
    """
    Removes folders of a cache that [`list_cache`] found.

    Raises:
        OSError: a folder cannot be removed.
    """
    for entry in entries:
        shutil.rmtree(entry.path)
