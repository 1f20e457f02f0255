"""Which columns of a user's rows are ratings, where nobody has named them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from urm_hf.data.survey.columns import OTHER_ROLES
from urm_hf.data.survey.survey import Surveyor, find_numbers

LOOKED_AT = 1000  # rows


class RatedColumns(NamedTuple):
    """
    Args:
        names (`list[str]`): of columns that could be ratings, in their order.
        unread (`list[str]`): what is to be said of columns of text that look like ratings and are not among them.
    """

    names: list[str]
    unread: list[str]


def infer_attributes(rows: Iterable[Mapping[str, Any]], usual: Sequence[str]) -> RatedColumns:
    """
    The columns of numbers that `urm data` calls ratings, in their order; of rows that have all of the usual attributes
    these, whatever else is counted there.

    Args:
        rows (`Iterable[Mapping]`): canonical rows, of which the first thousand are looked at.
        usual (`Sequence[str]`): attributes that are taken where the rows have all of them.

    Raises:
        ValueError: no column of numbers could be ratings.
    """
    found = find_rated_columns(rows)
    if set(usual) <= set(found.names):
        return RatedColumns(list(usual), [])
    if not found.names:
        columns = ", ".join(name for name in next(iter(rows), {}) if name[:1] not in ("_", ""))
        unread = "".join(f" {told}." for told in found.unread)
        raise ValueError(
            "no column holds numbers that could be ratings, from which the attribute stage learns; there are "
            f"{columns}.{unread} `urm data FILE` shows what they hold. Name ratings with `attributes` "
            "(`--attributes`)."
        )
    return found


def find_rated_columns(rows: Iterable[Mapping[str, Any]]) -> RatedColumns:
    """
    The columns of numbers in the first thousand rows that could be ratings, in their order; where there are none,
    those of text in which only numbers are written.
    """
    found, surveyor = dict[str, None](), Surveyor(show=0)
    for row in islice(rows, LOOKED_AT):
        own = {name: value for name, value in row.items() if name[:1] != "_"}
        found |= {name: None for name, _ in find_numbers(own) if name not in OTHER_ROLES}
        surveyor.add(own)
    survey = surveyor.finish()
    names = list(found) or [name for name in survey.numbers if name not in OTHER_ROLES]
    return RatedColumns(names, [told for name, told in survey.unread_numbers.items() if name not in names])


def check_all_rated(ratings: np.ndarray, attributes: Sequence[str], rows: Iterable[Mapping[str, Any]]):
    """
    Args:
        ratings (`np.ndarray` of shape `(N, n, R)`): NaN where there is none.
        attributes (`Sequence[str]`): the n names.
        rows (`Iterable[Mapping]`): where they come from.

    Raises:
        ValueError: an attribute has no rating in any row; the columns that have some are named.
    """
    absent = [name for name, given in zip(attributes, ~np.isnan(ratings).all((0, 2)), strict=True) if not given]
    if not absent or len(ratings) == 0:
        return
    found = [name for name in find_rated_columns(rows).names if name not in absent]
    told = f" The rows have numbers in {', '.join(found)}." if found else ""
    raise ValueError(
        f"attribute {absent[0]!r} has no rating in any row.{told} Name the columns that are ratings: `attributes` "
        f"(`--attributes {' '.join(found) or 'NAME ...'}`)."
    )
