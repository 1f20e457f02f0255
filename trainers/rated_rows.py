"""The ratings of a dataset, read once: to standardize labels before the model trains, and to train on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset

from urm_hf.data.conversation_keys import key_of_prompt
from urm_hf.data.conversations import read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.ratings import find_masks, ratings_array, read_cell, read_ratings
from urm_hf.data.row_numbers import drop_number, numbers_of
from urm_hf.trainers.encoding import RowPlan

Scales: TypeAlias = Mapping[str, Sequence[float]] | None


@dataclass(frozen=True)
class RatedRows:
    """
    The ratings of the N rows of a dataset.

    Args:
        ratings (`np.ndarray` of shape `(N, n, R)`): NaN where there is none, and in all of a row that cannot be read.
        unreadable (`dict[int, RowError]`): what is wrong with rows that cannot be read.
        masks (`dict[int, str]`): rows whose rating usually says "not rated", as `find_masks` tells them.
        numbers (`Sequence[int]`): the number of each row where it comes from.
        name (`str`, *optional*, defaults to `"rated"`): what errors call the dataset.
    """

    ratings: np.ndarray
    unreadable: dict[int, RowError]
    masks: dict[int, str]
    numbers: Sequence[int]
    name: str = "rated"

    def read_usable(self) -> np.ndarray:
        """
        The ratings of rows that can be used, `(<= N, n, R)`.

        Raises:
            RowError: no row can be read. If some can, the others are told, or left out, where all rows are encoded.
        """
        if len(self.unreadable) == len(self.ratings) > 0:
            first = min(self.unreadable)
            number = self.numbers[first]
            raise self.unreadable[first].at(f"row {number} of the {self.name} dataset", row=number)
        return np.delete(self.ratings, [*self.unreadable, *self.masks], axis=0)

    def read_row(self, number: int) -> list[list[float]]:
        """
        The ratings `(n, R)` of one row.

        Raises:
            RowError: they could not be read.
        """
        if number in self.unreadable:
            raise self.unreadable[number]
        return self.ratings[number].tolist()


def read_rated_rows(dataset: Dataset, attributes: list[str], scales: Scales, name: str = "rated") -> RatedRows:
    """
    Reads the ratings of all rows of a dataset.

    Args:
        dataset (`Dataset`): of rows as `read_ratings` takes them.
        attributes (`list[str]`): names of the n attributes, in the order of the head.
        scales (`dict[str, list[float]]`, *optional*): ratings outside an attribute's scale cannot be read.
        name (`str`, *optional*, defaults to `"rated"`): what errors call the dataset.

    Returns:
        [`RatedRows`]: nothing is raised here, so that all rows that cannot be used can be told at once.
    """
    ratings: list[list[list[float]]] = []
    unreadable: dict[int, RowError] = {}
    for number, row in enumerate(dataset):
        try:
            ratings.append(read_ratings(drop_number(row), attributes, scales))
        except RowError as error:
            unreadable[number] = error.with_traceback(None)  # which would keep every row alive
            ratings.append([[]] * len(attributes))
    # one width for all, the largest number of annotators: batches of several processes can then be gathered
    array = ratings_array(ratings) if ratings else np.empty((0, len(attributes), 1), dtype=np.float32)
    return RatedRows(array, unreadable, find_masks(array, attributes, scales), numbers_of(dataset), name)


def plan_rated_rows(attributes: list[str], scales: Scales, read: RatedRows | None) -> RowPlan:
    """
    What a rated row becomes: token ids, its ratings, its weight, and a key that rows of one prompt share.

    Args:
        attributes (`list[str]`): names of the n attributes.
        scales (`dict[str, list[float]]`, *optional*): of attributes whose range is declared.
        read (`RatedRows`, *optional*): the ratings of the dataset. Of a stream they are read as its rows come.
    """

    def read_columns(row: dict[str, Any], number: int) -> dict[str, Any]:
        ratings = read_ratings(row, attributes, scales) if read is None else read.read_row(number)
        weight = _read_weight(row.get("weight"))
        conversation = read_conversation(row)
        prompt = key_of_prompt(conversation) or conversation.key
        return {"ratings": ratings, "weight": weight, "prompt": prompt}

    return RowPlan(
        ids={"input_ids": None},
        extra=read_columns,
        blank={"ratings": [[float("nan")]] * len(attributes), "weight": 0.0, "prompt": ""},
        problems={} if read is None else read.masks,
    )


def _read_weight(value: Any) -> float:
    """The column `weight` of a row, 1 where there is none; a RowError if it is no weight."""
    found = read_cell(value)
    if found is None:
        return 1.0
    if isinstance(found, bool) or not isinstance(found, (int, float)) or not 0 <= found < float("inf"):
        raise RowError(f"column `weight` has {value!r}; it must be a finite number >= 0.", column="weight")
    return float(found)
