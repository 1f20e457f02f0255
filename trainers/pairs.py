"""Preference pairs as a trainer takes them: the token ids of both sides, and the margin between them."""

import math
from typing import Any

from datasets import Dataset, IterableDataset

from urm_hf.data.canonical import read_dataset
from urm_hf.data.encoder import Encoder
from urm_hf.data.errors import RowError
from urm_hf.data.formats.choices import rank_pairs
from urm_hf.data.row_numbers import NUMBER
from urm_hf.trainers.encoding import RowPlan, column_names, encode_dataset


def encode_pairs(
    dataset: Dataset | IterableDataset, encoder: Encoder, args: Any, name: str, seen: dict[str, Any] | None = None
) -> Dataset | IterableDataset:
    """
    Pairs as `chosen_ids`, `rejected_ids` and, if the rows have one, `margin`.

    Args:
        dataset (`Dataset` or `IterableDataset`): rows in any form that `urm_hf.data` reads.
        encoder ([`Encoder`]): makes token ids of a conversation.
        args (`URMTrainingConfig`): `on_error`, `output_dir` and `dataset_num_proc` are read.
        name (`str`): what errors call the dataset, such as "train".
        seen (`dict`, *optional*): as of [`encode_dataset`].

    Raises:
        RowError: rows cannot be used.
        ValueError: the rows hold no pairs.
    """
    if not isinstance(dataset, IterableDataset):  # of a stream each row is read as it comes
        dataset = read_dataset(dataset, rank_pairs, name=f"the {name} dataset", numbered=True)
    columns = column_names(dataset)
    _check_sides(columns, name)
    with_margin = "margin" in columns
    plan = RowPlan(
        {"chosen_ids": "chosen", "rejected_ids": "rejected"},
        extra=lambda row, number: {"margin": _read_margin(row["margin"])} if with_margin else {},
        blank={"margin": 0.0} if with_margin else {},
        check=_check_distinct,
    )
    return encode_dataset(
        dataset,
        encoder,
        plan,
        name=name,
        on_error=args.on_error,
        folder=args.output_dir,
        num_proc=args.dataset_num_proc,
        seen=seen,
    )


def _check_sides(columns: list[str], name: str):
    """A ValueError if the two sides of pairs are not there at all: then no row is at fault."""
    missing = [side for side in ("chosen", "rejected") if side not in columns]
    if missing:
        told = " and ".join(f"`{side}`" for side in missing)
        listed = ", ".join(column for column in columns if column != NUMBER)
        raise ValueError(f"the {name} dataset has no column {told}; it has {listed}. Pairs need both.")


def _check_distinct(row):
    """A RowError if the sides of a pair are the same to the model, which could learn nothing from it but noise."""
    if row["chosen_ids"] is not None and row["chosen_ids"] == row["rejected_ids"]:
        raise RowError(
            f"`chosen` and `rejected` are equal once encoded ({len(row['chosen_ids'])} tokens): the same text, what "
            "the chat template does not write, or what `truncation` cuts off. No reward can differ between them."
        )


def _read_margin(value) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"column `margin` has {value!r}; it must be a finite number in every row.")
    return float(value)
