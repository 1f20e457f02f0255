"""Datasets of rows become datasets of token ids, by the one function that encodes conversations."""

import logging
from collections.abc import Callable
from typing import Any

from datasets import Dataset, IterableDataset

from urm_hf.data.conversations import encode_conversation, limit_length

logger = logging.getLogger(__name__)


def column_names(dataset: Dataset | IterableDataset) -> list[str]:
    """Also of a stream that tells them only with its first row."""
    return list(dataset.column_names or next(iter(dataset)))


def encode_dataset(
    dataset: Dataset | IterableDataset,
    tokenizer,
    columns: dict[str, str | None],
    extra: Callable[[dict[str, Any]], dict[str, Any]],
    *,
    max_length: int | None,
    truncation: str,
    name: str,
    num_proc: int | None = None,
) -> Dataset | IterableDataset:
    """
    Encodes every row; an error names the dataset and the row.

    Args:
        columns: for each column of ids to make, the column with the answer (None: `completion` or `response`).
        extra: what else the new row holds.
        max_length, truncation: see [`limit_length`]. Rows that are cut or dropped are counted and logged.
    """
    streaming = isinstance(dataset, IterableDataset)
    given = column_names(dataset)
    if streaming and truncation != "error" and max_length is not None:
        raise ValueError(
            f"truncation={truncation!r} on the streaming dataset {name!r}: what is cut could not be counted in "
            "advance. Load the dataset without streaming, or cut its rows yourself."
        )

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        try:
            new = dict(extra(row))
            cut = False
            for ids_column, answer_column in columns.items():
                ids = encode_conversation(tokenizer, row, answer_column)
                new[ids_column] = limit_length(ids, max_length, truncation)
                cut = cut or new[ids_column] is None or len(new[ids_column]) < len(ids)
        except (ValueError, TypeError) as error:
            raise ValueError(f"row {number} of the {name} dataset: {error}") from error
        return new | {"_cut": cut}

    options = {} if streaming else {"desc": f"Tokenizing {name} dataset", "num_proc": num_proc}
    encoded = dataset.map(encode, with_indices=True, remove_columns=given, **options)
    if streaming:
        return encoded.remove_columns("_cut")
    affected = sum(encoded["_cut"])
    if affected:
        what = "dropped" if truncation == "drop" else f"truncated on the {truncation}"
        message = "%d of %d rows of the %s dataset are over %d tokens: %s."
        logger.warning(message, affected, len(encoded), name, max_length, what)
    if truncation == "drop":
        encoded = encoded.filter(lambda cut: not cut, input_columns="_cut", desc=f"Dropping over-long {name} rows")
        if not len(encoded):
            raise ValueError(f"all rows of the {name} dataset are over max_length={max_length} and were dropped.")
    return encoded.remove_columns("_cut")
