"""Which file a name means, and its bytes line by line; what is damaged is told in one line with a remedy."""

import gzip
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from urm_hf.data.errors import RowError

JSON_LINES = (".jsonl", ".jsonl.gz")
JSON = (".json", ".json.gz")
TABLES_OF_TEXT = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
FILE_TYPES = (*JSON_LINES, *JSON, ".parquet", *TABLES_OF_TEXT)
# that no dataset of the Hub is called by, whereas Skywork/Skywork-Reward-Preference-80K-v0.1 is one
OTHER_ENDINGS = (
    *(".txt", ".md", ".xlsx", ".xls", ".ods", ".xml", ".yaml", ".yml", ".zip", ".tar", ".gz", ".zst", ".bz2", ".log"),
    *(".arrow", ".feather", ".ndjson", ".pkl", ".npy", ".npz", ".pt", ".safetensors", ".db"),
)
UTF16 = (b"\xff\xfe", b"\xfe\xff")
UTF8_BOM = b"\xef\xbb\xbf"
# how files of other kinds begin, and what they are
BEGINNINGS = {
    b"\x1f\x8b": "compressed with gzip: give it a name that ends in .gz, or unpack it",
    b"PAR1": "a Parquet file: give it a name that ends in .parquet",
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or export it as CSV",
    b"version https://git-lfs": "a Git LFS pointer, not the data: fetch the data with `git lfs pull`",
}


def has_ending(path: str | Path, endings: tuple[str, ...]) -> bool:
    """Whether a file's name ends in one of these, in capitals or not."""
    return Path(path).name.lower().endswith(endings)


def local_file(name: str) -> Path | None:
    """
    The file of that name; None if it can only be a dataset of the Hub.

    Raises:
        FileNotFoundError: it is neither. ValueError: it is a folder, or a file of an unknown type.
    """
    if not name.strip():
        raise ValueError("the name of the data is empty: name a file, or a dataset of the Hub.")
    path = Path(name)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise FileNotFoundError(f"{name}: a link to {path.readlink()}, which is no file.") from None
        if path.is_absolute() or len(path.parts) != len(name.split("/")) or len(path.parts) > 2:
            raise FileNotFoundError(f"{name}: no such file.") from None
        if has_ending(path, (*FILE_TYPES, *OTHER_ENDINGS)):
            raise FileNotFoundError(f"{name}: no such file.") from None
        return None
    except NotADirectoryError:
        raise FileNotFoundError(f"{name}: no such file; a part of its path is a file, not a folder.") from None
    if stat.S_ISDIR(mode):
        raise ValueError(f"{name}: a folder, not a file.{_suggest_file(path)}")
    if not stat.S_ISREG(mode):
        raise ValueError(f"{name}: not a regular file. Rows are read more than once: save them to a file first.")
    if not has_ending(path, FILE_TYPES):
        raise ValueError(f"{path}: unknown type of file; expected one of {', '.join(FILE_TYPES)}.")
    return path


def read_lines(path: str | Path) -> Iterator[tuple[int, bytes]]:
    """
    Lines of a text file, gzipped or not, with their numbers from 1; a byte order mark is left out.

    Raises:
        ValueError: the file is damaged, of another kind than its name says, or in UTF-16.
    """
    number = 0
    with open(path, "rb") as raw, _damage_told(path, lambda: number):
        file: BinaryIO = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if has_ending(path, (".gz",)) else raw
        for number, line in enumerate(file, start=1):
            yield number, _check_beginning(path, line) if number == 1 else line


def decode_line(path: str | Path, number: int, line: bytes, row: int | None = None) -> str:
    """
    The text of a line; `row`: the number of the row that it holds, where each line is one.

    Raises:
        RowError: it is not UTF-8.
    """
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise RowError(
            f"{path}, line {number}: not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1}). Convert "
            f"the file: iconv -f LATIN1 -t UTF-8 {path} > utf8{Path(path).suffix} if it is in Latin-1.",
            file=path,
            row=row,
            line=number,
        ) from error


def _check_beginning(path: str | Path, line: bytes) -> bytes:
    """The first line without a byte order mark."""
    if line.startswith(UTF16) or b"\x00" in line[:2]:
        raise ValueError(
            f"{path}: the file is in UTF-16, or no text at all. Convert it: "
            f"iconv -f UTF-16 -t UTF-8 {path} > utf8{Path(path).suffix}"
        )
    for beginning, what in BEGINNINGS.items():
        if line.startswith(beginning):
            raise ValueError(f"{path}: the file is {what}.")
    return line.removeprefix(UTF8_BOM)


@contextmanager
def _damage_told(path: str | Path, lines_read: Callable[[], int]) -> Iterator[None]:
    """Errors of gzip become one that names the file and the last whole line."""
    remedy = "Copy or download the file again."
    try:
        yield
    except gzip.BadGzipFile as error:
        if lines_read() == 0:
            raise ValueError(f"{path}: not compressed with gzip, although its name ends in .gz. Rename it.") from error
        raise ValueError(f"{path}: damaged after line {lines_read()} ({error}). {remedy}") from error
    except EOFError as error:
        raise ValueError(f"{path}: cut short after line {lines_read()}. {remedy}") from error
    except zlib.error as error:
        raise ValueError(f"{path}: damaged after line {lines_read()} ({error}). {remedy}") from error


def _suggest_file(folder: Path) -> str:
    """A file of the folder that could be meant, as the end of an error."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and has_ending(path, FILE_TYPES))
    return f" Name a file in it, such as {files[0]}." if files else f" It holds no {', '.join(FILE_TYPES)} either."
