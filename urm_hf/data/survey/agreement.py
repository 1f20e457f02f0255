"""How far annotators agree about an attribute: the share of the variance of ratings that is due to the items."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Agreement:
    """
    Sums from which the intraclass correlation ICC(1) of a one-way random model follows (Shrout and Fleiss 1979), with
    k0 of unbalanced data (Searle 1971) in place of the number of raters. They take no memory for the items.

    Args:
        items (`int`), ratings (`int`): how many were added.
    """

    items: int = 0
    ratings: int = 0
    _sum: float = 0.0
    _squares: float = 0.0
    _squared_sums: float = 0.0  # of each item, divided by its number of ratings
    _squared_counts: int = 0

    def add(self, values: Sequence[float]):
        """All ratings of one item."""
        if not values:
            return
        self.items += 1
        self.ratings += len(values)
        total = sum(values)
        self._sum += total
        self._squares += sum(value * value for value in values)
        self._squared_sums += total * total / len(values)  # beyond all floats it is infinite
        self._squared_counts += len(values) ** 2

    @property
    def icc(self) -> float | None:
        """1 where annotators agree and items differ, 0 where items differ no more than annotators; None: not told."""
        if self.items < 2 or self.ratings <= self.items:
            return None
        between = (self._squared_sums - self._sum * self._sum / self.ratings) / (self.items - 1)
        within = (self._squares - self._squared_sums) / (self.ratings - self.items)
        raters = (self.ratings - self._squared_counts / self.ratings) / (self.items - 1)
        total = between + (raters - 1) * within
        return (between - within) / total if total > 0 else None
