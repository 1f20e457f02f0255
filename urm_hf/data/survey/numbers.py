"""The numbers of one column: their range, how they are spread, and which of them cannot be ratings."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from urm_hf.data.survey.agreement import Agreement

MASKS = (-100.0, -1.0, 999.0, -999.0, 9999.0, -9999.0)  # that data write where there is no rating
MOST_DISTINCT = 100  # values that are counted one by one
SCALE_TOPS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 10.0)  # of the scales of few steps that people rate on
# of two scales in one column: the least share of numbers on the small one, and the most just above it
LEAST_ON_SCALE, MOST_BETWEEN = 0.2, 0.05


@dataclass
class NumberColumn:
    """
    Args:
        rows (`int`): with a number. missing (`int`): without one.
        not_finite (`int`): NaN and infinities, which are not counted further.
        scale (`(low, high)`, *optional*): that the rows declare.
        outside (`int`): ratings outside the scale.
        counts (`Counter`): of each value, until there are more than `MOST_DISTINCT`.
    """

    rows: int = 0
    missing: int = 0
    not_finite: int = 0
    low: float = math.inf
    high: float = -math.inf
    most_per_row: int = 0
    scale: tuple[float, float] | None = None
    outside: int = 0
    counts: Counter[float] = field(default_factory=Counter)
    many_values: bool = False
    agreement: Agreement = field(default_factory=Agreement)
    _sum: float = 0.0
    _squares: float = 0.0

    def add(self, value: Any, scale: Any = None):
        """The number or numbers of one row."""
        values = [
            _as_float(one) for one in (value if isinstance(value, (list, tuple)) else [value]) if one is not None
        ]
        finite = [one for one in values if math.isfinite(one)]
        self.not_finite += len(values) - len(finite)
        if not finite:
            self.missing += 1
            return
        self.rows += 1
        self.low, self.high = min(self.low, *finite), max(self.high, *finite)
        self.most_per_row = max(self.most_per_row, len(finite))
        self.agreement.add(finite)
        self._sum += sum(finite)
        self._squares += sum(one * one for one in finite)
        self._count(finite)
        self._check_scale(finite, scale)

    @property
    def numbers(self) -> int:
        return self.agreement.ratings

    @property
    def mean(self) -> float:
        return self._sum / self.numbers

    @property
    def std(self) -> float:
        """Population standard deviation of all numbers."""
        return math.sqrt(max(0.0, self._squares / self.numbers - self.mean * self.mean))

    def histogram(self, bins: int = 8) -> list[int]:
        """How many numbers fall in each of as many equal parts of the range; of few values, how many have each."""
        if len(self.counts) <= bins and not self.many_values:
            return [self.counts[value] for value in sorted(self.counts)]
        half_range = self.high / 2 - self.low / 2  # halves, as the range of the largest floats is infinite
        parts = [0] * bins
        for value, count in self.counts.items():
            share = (value / 2 - self.low / 2) / half_range if half_range else 0.0
            parts[min(bins - 1, int(bins * share))] += count
        return parts

    def suspicions(self) -> list[str]:
        """What can hardly be a rating, in words."""
        found = []
        masks = [mask for mask in MASKS if self.counts[mask] and self._stands_apart(mask)]
        found += [f"{mask:g} occurs {self.counts[mask]} times and may mean: not rated" for mask in masks]
        if self.outside and self.scale is not None:
            found.append(f"{self.outside} are outside the scale [{self.scale[0]:g}, {self.scale[1]:g}]")
        if self.not_finite:
            found.append(f"{self.not_finite} are NaN or infinite")
        mixed = self._find_mixed_scale()
        if mixed is not None:
            above, top = mixed
            found.append(
                f"{above} of {self.numbers} are above {2 * top:g} and up to {self.high:g}, where the others are whole "
                f"numbers up to {top:g}: if some rows were rated on another scale, bring all to one"
            )
        if self.rows > 1 and self.low == self.high:
            found.append(f"all are {self.low:g}: there is nothing to learn from them")
        return found

    def _find_mixed_scale(self) -> tuple[int, float] | None:
        """
        How many numbers are far above the top of a scale of few whole steps on which others are, and that top. None
        where hardly any are on one, or numbers lie all the way up, as on one wide scale.
        """
        if self.scale is not None or self.low < 0:
            return None
        counts = {value: count for value, count in self.counts.items() if value not in MASKS}
        total, most = sum(counts.values()), max(counts, default=0.0)
        for top in SCALE_TOPS:
            low = {value: count for value, count in counts.items() if value <= top}
            between = sum(count for value, count in counts.items() if top < value <= 2 * top)
            above = total - sum(low.values()) - between
            steps = len(low) > 2 and top in low and all(value == int(value) for value in low)
            if not steps or not above or most < 4 * top:
                continue
            if sum(low.values()) >= LEAST_ON_SCALE * total and between <= MOST_BETWEEN * total:
                return above, top
        return None

    def _count(self, values: Sequence[float]):
        for value in values:
            if value in self.counts or len(self.counts) < MOST_DISTINCT:
                self.counts[value] += 1
            else:  # the rest is counted with its nearest neighbors, which keeps histograms right to a bin
                self.many_values = True
                self.counts[min(self.counts, key=lambda known: abs(known - value))] += 1

    def _check_scale(self, values: Sequence[float], scale: Any):
        if not isinstance(scale, (list, tuple)) or len(scale) < 2:
            return
        if not all(isinstance(end, (int, float)) for end in scale[:2]):
            return
        low, high = _as_float(scale[0]), _as_float(scale[1])
        self.scale = (low, high)
        self.outside += sum(not low <= value <= high for value in values)

    def _stands_apart(self, mask: float) -> bool:
        """Whether no other value has the sign of the mask, or is near it."""
        others = [value for value in self.counts if value != mask and value not in MASKS]
        if not others:
            return False
        if mask < 0:
            return min(others) >= 0
        return max(others) < mask / 2


def _as_float(value: Any) -> float:
    """An integer beyond all floats counts as infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
