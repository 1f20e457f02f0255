"""Which columns of a user's rows are ratings, where nobody has named them."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from urm_hf.data.survey.columns import OTHER_ROLES
from urm_hf.data.survey.survey import find_numbers

LOOKED_AT = 1000  # rows


def infer_attributes(rows: Iterable[Mapping[str, Any]], usual: Sequence[str]) -> list[str]:
    """
    The columns of numbers that `urm data` calls ratings, in their order.

    Args:
        rows (`Iterable[Mapping]`): canonical rows, of which the first thousand are looked at.
        usual (`Sequence[str]`): attributes that are taken where the rows have any of them.

    Raises:
        ValueError: no column of numbers could be ratings.
    """
    found: dict[str, None] = {}
    for row in islice(rows, LOOKED_AT):
        found |= {name: None for name, _ in find_numbers(dict(row)) if name not in OTHER_ROLES and name[0] != "_"}
    if set(usual) & set(found):
        return list(usual)
    if not found:
        raise ValueError(
            "no column holds numbers that could be ratings, from which the attribute stage learns: `urm data FILE` "
            "shows what the columns hold. Name ratings with `--attributes`."
        )
    return list(found)
