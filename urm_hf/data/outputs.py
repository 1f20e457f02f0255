"""What commands write: refused before any work where it would destroy something, and then whole or not at all."""

import glob
import json
import math
import os
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # not on Windows, where temporary files of killed processes stay
    fcntl = None  # type: ignore[assignment]

TRIED = b"0" * 65536  # bytes; a full disk takes an empty file, but not these


def check_output_file(out: Path, inputs: Sequence[str | Path] = (), *, overwrite: bool = False):
    """
    Whether a file can and may be written, asked before the work that it is the result of.

    Args:
        out (`Path`): the file.
        inputs (`Sequence[str | Path]`, *optional*): what is read for it; names of Hub datasets are passed over.
        overwrite (`bool`, *optional*, defaults to `False`): an existing file may be replaced, an input never.

    Raises:
        ValueError: it is an input or a link to one, exists, or is no file. OSError: its folder cannot be written to.
    """
    for data in inputs:
        if _is_same_file(out, Path(data)):
            raise ValueError(f"{out} is the input {data}, which it would replace; write to another file.")
    if out.is_dir():
        raise ValueError(f"{out} is a folder; name a file in it.")
    if os.path.lexists(out):
        if not out.is_file():
            raise ValueError(f"{out} is no regular file (a pipe, device or broken link); name another one.")
        if not overwrite:
            raise ValueError(
                f"{out} exists and is not an unfinished output of this job; move it away, write to another file, or "
                "allow it to be replaced (`overwrite=True`, `--overwrite`)."
            )
    check_writable(out.parent)


def has_schema(file: Path, schema: str) -> bool:
    """Whether a file holds results of this schema."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and content.get("schema") == schema


def check_output_folder(folder: Path, written: Sequence[str], *, own: bool, overwrite: bool = False):
    """
    Whether files can and may be written to a folder, which may not exist yet.

    Args:
        folder (`Path`): the folder. written (`Sequence[str]`): names of the files.
        own (`bool`): whether the folder is known to hold former output of the same kind, which may be renewed.
        overwrite (`bool`, *optional*, defaults to `False`): existing files may be replaced.

    Raises:
        ValueError: the folder is a file, or has files of these names from elsewhere. OSError: it cannot be written to.
    """
    if os.path.lexists(folder) and not folder.is_dir():
        raise ValueError(f"{folder} is a file; it must be a folder, or nothing yet.")
    taken = [name for name in written if os.path.lexists(folder / name)]
    if taken and not own and not overwrite:
        raise ValueError(
            f"{folder} holds {', '.join(taken)} of another origin; write to another folder, or allow them to be "
            "replaced (`overwrite=True`, `--overwrite`)."
        )
    check_writable(folder)


def check_writable(folder: Path):
    """
    Whether a folder can be written to, or made: then the nearest one above it that exists is asked.

    Raises:
        OSError: what is there is no folder, or a small file cannot be written to it.
    """
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is no folder, so that nothing can be written to {folder}.")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(TRIED)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedy = "Write elsewhere" if place == folder else f"For {folder}: write elsewhere"
        raise OSError(f"{place} cannot be written to: {error.strerror}. {remedy}, or make room.") from error


def write_whole(path: Path, content: bytes):
    """
    As [`replace_file`], with an error that tells what is at stake.

    Raises:
        OSError: it cannot be written, of the kind that the system told; `FileNotFoundError` if its folder is gone.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        told = f"{path} cannot be written: {error.strerror}. What was finished before is kept."
        raise type(error)(told) from error


def replace_file(path: Path, content: bytes, *, prefix: str = ""):
    """
    Under another name first, so that what has its name is whole. What processes that were killed here have left under
    such names is removed.

    Args:
        path (`Path`): the file. content (`bytes`): all of it.
        prefix (`str`, *optional*, defaults to `""`): of the other name; "." hides it where folders are listed.
    """
    remove_stale(path.parent, f"{glob.escape(prefix + path.name)}.????????.tmp")
    temporary = path.with_name(f"{prefix}{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(temporary, "wb") as file:
            _lock(file)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def remove_stale(folder: Path, pattern: str):
    """Removes temporary files of `replace_file` whose writers are dead: the living hold a lock."""
    for temporary in folder.glob(pattern):
        try:
            with open(temporary, "rb") as file:
                if _lock(file, wait=False):
                    temporary.unlink(missing_ok=True)
        except OSError:  # its writer has just finished, or it is not ours to remove
            continue


def _lock(file: Any, *, wait: bool = True) -> bool:
    """Locks an open file until it is closed, in whatever way; False where another process holds it."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def json_text(value: Any, **settings: Any) -> str:
    """
    JSON as every reader takes it. It has no form for infinities and NaN, which become null; other values that it has
    no form for, as dates, become text.
    """
    settings = dict[str, Any](ensure_ascii=False, default=str, allow_nan=False) | settings
    try:
        return json.dumps(value, **settings)
    except ValueError:  # only now: to look at every number costs more than to write it
        return json.dumps(_without_nonfinite(value), **settings)


def _without_nonfinite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_key_without_nonfinite(key): _without_nonfinite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nonfinite(item) for item in value]
    return value


def _key_without_nonfinite(key: Any) -> Any:
    return str(key) if isinstance(key, float) and not math.isfinite(key) else key


def json_bytes(value: Any, **settings: Any) -> bytes:
    """`json_text` in UTF-8. Half a surrogate pair, which UTF-8 has no bytes for, is written as JSON's escape."""
    return json_text(value, **settings).encode(errors="backslashreplace")


def json_lines(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as JSON lines."""
    return b"".join(json_bytes(row) + b"\n" for row in rows)


def _is_same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them does not exist, or is the name of a Hub dataset
        return False
