"""
Keeping what a reward model is sure of (section 4.2): by a threshold, a share to keep, or a promised error.

A conversation or pair is kept where its uncertainty is at most the threshold; ties share one fate.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from urm_hf.uncertainty.measures import measure
from urm_hf.uncertainty.thresholds import FittedThreshold, check_values, fit_threshold

__all__ = ["Filtered", "filter_pairs", "filter_scores", "filter_values", "fit_threshold", "pair_values"]

REDUCTIONS = {"either": np.maximum, "both": np.minimum}


@dataclass(frozen=True)
class Filtered:
    """
    Args:
        kept (`(N,)`, bool): whether each row is kept.
        threshold: largest uncertainty that is kept.
    """

    kept: np.ndarray
    threshold: float

    @property
    def indices(self) -> np.ndarray:
        """Rows that are kept, in their order."""
        return np.flatnonzero(self.kept)

    @property
    def n_kept(self) -> int:
        return int(self.kept.sum())

    @property
    def n_dropped(self) -> int:
        return len(self.kept) - self.n_kept

    def select(self, rows: Sequence[Any]) -> list[Any]:
        """The kept ones of N rows."""
        return [row for row, kept in zip(rows, self.kept, strict=True) if kept]

    def __str__(self) -> str:
        return f"{self.n_kept} of {len(self.kept)} kept, {self.n_dropped} above {self.threshold:.4g} dropped"


def filter_values(
    values: ArrayLike, *, threshold: float | FittedThreshold | None = None, keep: float | None = None
) -> Filtered:
    """
    Keeps the rows whose uncertainty is low.

    Args:
        values (`(N,)`): uncertainties; higher = less sure.
        threshold: keeps values up to it; a number, or what `fit_threshold` returned.
        keep: the share to keep, in (0, 1]: sets the threshold at the value of rank ceil(keep N). Values that tie with
            it are kept as well, so that more may be kept than asked for.

    Raises:
        ValueError: a value is not finite; not exactly one of `threshold` and `keep`; a fitted threshold that is None.
    """
    values = check_values(values)
    if (threshold is None) == (keep is None):
        raise ValueError(f"Give either `threshold` or `keep`, got threshold={threshold} and keep={keep}.")
    if isinstance(threshold, FittedThreshold):
        if threshold.threshold is None:
            raise ValueError(f"No threshold was found that keeps the promise: {threshold.reason}")
        threshold = threshold.threshold
    elif threshold is None:
        if not 0 < keep <= 1:  # type: ignore[operator]
            raise ValueError(f"`keep` is a share and must lie in (0, 1], got {keep}.")
        if not len(values):
            raise ValueError("`keep` needs at least one value.")
        rank = math.ceil(round(keep * len(values), 6))  # type: ignore[operator]  # 0.7 * 10 is above 7
        threshold = float(np.sort(values)[rank - 1])
    if math.isnan(threshold):
        raise ValueError("`threshold` is nan.")
    return Filtered(values <= threshold, float(threshold))


def filter_scores(
    scores: Any, by: str, *, threshold: float | FittedThreshold | None = None, keep: float | None = None
) -> Filtered:
    """Keeps conversations by a measure of `urm_hf.uncertainty.MEASURES`; arguments as in [`filter_values`]."""
    return filter_values(measure(scores, by), threshold=threshold, keep=keep)


def filter_pairs(
    chosen: Any,
    rejected: Any,
    by: str,
    *,
    threshold: float | FittedThreshold | None = None,
    keep: float | None = None,
    above: str = "either",
) -> Filtered:
    """Keeps pairs by a measure of both sides; `above` as in [`pair_values`], the rest as in [`filter_values`]."""
    values = pair_values(measure(chosen, by), measure(rejected, by), above)
    return filter_values(values, threshold=threshold, keep=keep)


def pair_values(chosen: ArrayLike, rejected: ArrayLike, above: str = "either") -> np.ndarray:
    """
    One uncertainty for each pair, (N,).

    Args:
        chosen, rejected (`(N,)`): the uncertainty of each side.
        above: "either": the larger, so that a pair is dropped when either side is above the threshold (as in the
            paper's Fig. 6c); "both": the smaller, so that it is dropped only when both are.
    """
    if above not in REDUCTIONS:
        raise ValueError(f'`above` must be "either" or "both", got {above!r}.')
    chosen, rejected = check_values(chosen), check_values(rejected)
    if len(chosen) != len(rejected):
        raise ValueError(f"Pairs have two sides, got {len(chosen)} chosen and {len(rejected)} rejected values.")
    return REDUCTIONS[above](chosen, rejected)
