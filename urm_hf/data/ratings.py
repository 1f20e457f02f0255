"""Human ratings of a conversation: from the columns of a row to numbers, one list per attribute."""

import json
import math
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np

from urm_hf.data.errors import RowError

LARGEST = float(np.finfo(np.float32).max)  # ratings are float32 where they are learnt from
MASKS = (-1, -9, -99, -100, -999, -9999, 99, 999, 9999)  # what people write for a rating that was not given


def read_ratings(
    row: Mapping[str, Any], attributes: Sequence[str], scales: Mapping[str, Sequence[float]] | None = None
) -> list[list[float]]:
    """
    All ratings of a row: one list per attribute, empty where the attribute was not rated.

    A rating column holds a number, a list of numbers (several annotators) or null; text that reads as one of these, as
    cells of CSV files do, is taken for it. The columns may also sit together in one column `ratings` that holds a
    mapping of them, or a list with one entry for each attribute, in their order.

    Args:
        scales (`dict[str, [min, max, ...]]`, *optional*): ratings outside an attribute's scale are an error.

    Raises:
        ValueError: names the column and the value of what is not a finite number or lies outside its scale; or says
            that the row has no rating at all, or lacks all the columns.
    """
    source = _columns(row, attributes)
    if not any(attribute in source for attribute in attributes):
        raise RowError(f"none of the rating columns {list(attributes)} is there; the row has {sorted(source)}.")
    ratings = [_numbers(attribute, source.get(attribute)) for attribute in attributes]
    if not any(ratings):
        raise RowError(
            f"no rating at all: {', '.join(attributes)} are all empty. Rate the row, or leave such rows out and have "
            "them counted, where ratings are learnt from (`skip_unrated=True`)."
        )
    for attribute, values in zip(attributes, ratings, strict=True):
        if scales and attribute in scales:
            low, high = scales[attribute][:2]
            outside = [value for value in values if not low <= value <= high]
            if outside:
                raise RowError(
                    f"column `{attribute}` has the rating {outside[0]:g}, outside its scale [{low:g}, {high:g}]. "
                    "Correct the rating, or the declared scale (`attribute_scales`)."
                )
    return ratings


def is_rated(row: Mapping[str, Any], attributes: Sequence[str]) -> bool:
    """Whether a row has a rating of any of these attributes."""
    source = _columns(row, attributes)
    values = [read_cell(source.get(attribute)) for attribute in attributes]
    return any(x is not None for value in values for x in (value if isinstance(value, list) else [value]))


def ratings_array(ratings: Sequence[Sequence[Sequence[float]]], width: int | None = None) -> np.ndarray:
    """Ratings of N rows as one array (N, n, R), padded with NaN to the largest number of annotators, or to `width`."""
    widest = max((len(values) for row in ratings for values in row), default=1)
    array = np.full((len(ratings), len(ratings[0]), max(widest, width or 1)), np.nan, dtype=np.float32)
    for i, row in enumerate(ratings):
        for k, values in enumerate(row):
            array[i, k, : len(values)] = values
    return array


def rating_statistics(ratings: np.ndarray, attributes: Sequence[str]) -> tuple[list[float], list[float]]:
    """
    Mean and standard deviation of all ratings (N, n, R) of each attribute; 1 where all ratings are the same.

    Raises:
        ValueError: an attribute has no rating in any row.
    """
    ratings = ratings.astype(np.float64)
    for k, attribute in enumerate(attributes):
        if np.isnan(ratings[:, k]).all():
            raise ValueError(f"attribute {attribute!r} has no rating in any row; remove it from the attributes.")
    means, stds = np.nanmean(ratings, axis=(0, 2)), np.nanstd(ratings, axis=(0, 2))
    return means.tolist(), np.where(stds > 0, stds, 1.0).tolist()


def _columns(row: Mapping[str, Any], attributes: Sequence[str]) -> Mapping[str, Any]:
    """The rating columns by name, wherever the row keeps them."""
    nested = read_cell(row.get("ratings"))
    if isinstance(nested, (list, tuple)) and not any(attribute in row for attribute in attributes):
        if len(nested) != len(attributes):
            raise RowError(
                f"column `ratings` has {len(nested)} entries for the {len(attributes)} attributes {list(attributes)}: "
                "one is needed for each, null where there is no rating."
            )
        nested = dict(zip(attributes, nested, strict=True))
    return nested if isinstance(nested, Mapping) else row


def _numbers(column: str, value: Any) -> list[float]:
    value = read_cell(value)
    if value is None:
        return []
    values = value if isinstance(value, (list, tuple, np.ndarray)) else [value]
    for item in values:
        if item is None:
            continue
        if isinstance(item, (bool, np.bool_)) or not isinstance(item, (Real, np.number)):
            raise RowError(f"column `{column}` has {item!r}, which is not a number.")
        if not math.isfinite(float(item)):
            raise RowError(f"column `{column}` has {item!r}. Use null for a rating that was not given.")
        if abs(float(item)) > LARGEST:
            raise RowError(f"column `{column}` has {item!r}, more than float32 holds: give it on another scale.")
    return [float(item) for item in values if item is not None]


def read_cell(value: Any) -> Any:
    """Numbers, lists and mappings that a cell of a CSV file holds as text; all else as it is."""
    if not isinstance(value, str):
        return value
    for read in (json.loads, float):  # `03`, `.5` and `5.` are numbers too, but not in JSON
        try:
            found = read(value)
        except (ValueError, RecursionError):
            continue
        return value if isinstance(found, (str, bool)) else found
    return value


def find_masks(
    ratings: np.ndarray,
    attributes: Sequence[str],
    scales: Mapping[str, Sequence[float]] | None = None,
    column: str | None = None,
) -> dict[int, str]:
    """
    Rows that hold a value which usually says "not rated", such as -100: what is wrong with each.

    A negative one is taken for a mask if every other rating of its attribute is 0 or more, and a positive one if every
    other is at most a tenth of it. Declaring a scale that holds the value says that it is a rating.

    Args:
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        attributes (`list[str]`): names of the n attributes.
        scales (`dict[str, [min, max, ...]]`, *optional*): of attributes whose range is declared.
        column (`str`, *optional*): the column that declares them. By default the argument `attribute_scales` does.
    """
    problems: dict[int, str] = {}
    for k, attribute in enumerate(attributes):
        if scales and attribute in scales:
            continue
        values = ratings[:, k]
        masked = np.isin(values, MASKS)
        others = values[~masked & ~np.isnan(values)]
        negative = masked & (values < 0) & bool((others >= 0).all())
        positive = masked & (values > 0) & bool(len(others)) & bool((others <= 9.9).all())
        for row in np.flatnonzero((negative | positive).any(axis=1)):
            mask = values[row][(negative | positive)[row]][0]
            scale = f"{{{attribute!r}: [min, max]}}"
            declared = f"`attribute_scales={scale}`" if column is None else f"`{column}` {scale}"
            problems.setdefault(
                int(row),
                f"column `{attribute}` has the rating {mask:g}, which usually says that there is none. Write null "
                f"there; if it is a rating, declare the scale: {declared}.",
            )
    return problems
