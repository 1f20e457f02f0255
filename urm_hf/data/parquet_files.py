"""Rows of Parquet files. Columns of JSON text, which the file marks as such, are decoded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

from urm_hf.data.items import Item

BATCH = 1024  # rows in memory at once


def read_parquet_items(path: str | Path) -> Iterator[Item]:
    """
    Raises:
        ValueError: the file is damaged, or names a column twice.
    """
    with damage_told(path), parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        twice = [name for name in schema.names if schema.names.count(name) > 1]
        if twice:
            raise ValueError(f"{path}: the file names column {twice[0]!r} twice; rename one.")
        as_json = [field.name for field in schema if holds_json(field.type)]
        for batch in file.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                for name in as_json:
                    row[name] = _decode(row[name], schema.field(name).type)
                yield row


@contextmanager
def damage_told(path: str | Path) -> Iterator[None]:
    """Errors of Arrow, which speak of its insides, become one that names the file."""
    try:
        yield
    except (pyarrow.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(_damage(path, error)) from error
    except OSError as error:
        if error.errno is not None:  # of the system: not there, not allowed
            raise
        raise ValueError(_damage(path, error)) from error


def _damage(path: str | Path, error: Exception) -> str:
    return f"{path}: damaged, or no Parquet file ({' '.join(str(error).split())[:200]}). Copy or download it again."


def holds_json(kind: pyarrow.DataType) -> bool:
    """Whether a type is JSON text, or has some inside."""
    if isinstance(kind, pyarrow.JsonType):
        return True
    return any(holds_json(kind.field(number).type) for number in range(kind.num_fields))


def _decode(value: Any, kind: pyarrow.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pyarrow.JsonType):
        return json.loads(value)
    if isinstance(value, dict):
        return {name: _decode(inner, kind.field(name).type) for name, inner in value.items()}
    if isinstance(value, list) and kind.num_fields == 1:
        return [_decode(inner, kind.field(0).type) for inner in value]
    return value
