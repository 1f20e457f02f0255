"""
Keeping what a reward model is sure of (section 4.2): by a threshold, a share to keep, or a promised error.

A conversation or pair is kept where its uncertainty is at most the threshold; ties share one fate.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from urm_hf.moved import renamed
from urm_hf.uncertainty.measures import compute_preference_probability, compute_uncertainty
from urm_hf.uncertainty.thresholds import FittedThreshold, check_values, fit_threshold

__all__ = [
    "Filtered",
    "FittedThreshold",
    "combine_pair_uncertainty",
    "compute_pair_uncertainty",
    "filter_pairs",
    "filter_scores",
    "filter_values",
    "fit_threshold",
    "pair_values",
]

PROBABILITY_NEAR_HALF = "probability_near_half"  # the measure that a pair has, and neither of its sides
REDUCTIONS = {"either": np.maximum, "both": np.minimum}


@dataclass(frozen=True)
class Filtered:
    """
    Which of N rows are kept.

    Args:
        kept (`np.ndarray` of shape `(N,)`, bool): whether each row is kept.
        threshold (`float`): largest uncertainty that is kept.
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
        """The kept ones of N rows, in their order."""
        return [row for row, kept in zip(rows, self.kept, strict=True) if kept]

    def __str__(self) -> str:
        return f"{self.n_kept} of {len(self.kept)} kept, {self.n_dropped} above {self.threshold:.4g} dropped"


def filter_values(
    values: ArrayLike, *, threshold: float | FittedThreshold | None = None, keep: float | None = None
) -> Filtered:
    """
    Keeps the rows whose uncertainty is low.

    Args:
        values (`ArrayLike` of shape `(N,)`):
            Uncertainties; higher = less sure.
        threshold (`float` or `FittedThreshold`, *optional*):
            Keeps values up to it; a number, or what `fit_threshold` returned.
        keep (`float`, *optional*):
            The share to keep, in (0, 1]: sets the threshold at the value of rank ceil(keep N). Values that tie with it
            are kept as well, so that more may be kept than asked for.

    Returns:
        [`Filtered`]: which rows are kept, and the threshold.

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
        # rounded first: 0.7 * 10 is a little above 7 in floating point, and would keep eight
        rank = math.ceil(round(keep * len(values), 6))  # type: ignore[operator]
        threshold = float(np.sort(values)[rank - 1])
    if math.isnan(threshold):
        raise ValueError("`threshold` is nan.")
    return Filtered(values <= threshold, float(threshold))


def filter_scores(
    scores: Any,
    measure: str | None = None,
    *,
    threshold: float | FittedThreshold | None = None,
    keep: float | None = None,
    by: str | None = None,
) -> Filtered:
    """
    Keeps the conversations whose uncertainty is low.

    ```python
    kept = filter_scores(scores, measure="epistemic", keep=0.8)
    kept.select(rows)
    ```

    Args:
        scores (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            As in [`compute_uncertainty`].
        measure (`str`):
            A key of `urm_hf.uncertainty.MEASURES`.
        threshold (`float` or `FittedThreshold`, *optional*):
            The largest uncertainty that is kept. Either this or `keep`.
        keep (`float`, *optional*):
            The share to keep, in (0, 1]; ties with the last one are kept as well.
        by (`str`, *optional*):
            The former name of `measure`.

    Returns:
        [`Filtered`]: which rows are kept, and the threshold.

    Raises:
        ValueError: the scores do not give the measure, or as in [`filter_values`].
    """
    return filter_values(compute_uncertainty(scores, _read_measure(measure, by)), threshold=threshold, keep=keep)


def filter_pairs(
    chosen: Any,
    rejected: Any,
    measure: str | None = None,
    *,
    threshold: float | FittedThreshold | None = None,
    keep: float | None = None,
    above: str = "either",
    by: str | None = None,
) -> Filtered:
    """
    Keeps the pairs whose two sides have a low uncertainty.

    Args:
        chosen (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            Scores of one side of N pairs.
        rejected (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            Scores of the other side, in the same order.
        measure (`str`):
            A key of `urm_hf.uncertainty.MEASURES`, of which each side has a value; or "probability_near_half", which
            the pair has: 1/2 - |P(chosen better) - 1/2|, from 0 (sure) to 1/2.
        threshold (`float` or `FittedThreshold`, *optional*):
            The largest uncertainty that is kept. Either this or `keep`.
        keep (`float`, *optional*):
            The share to keep, in (0, 1]; ties with the last one are kept as well.
        above (`str`, *optional*, defaults to `"either"`):
            As in [`combine_pair_uncertainty`].
        by (`str`, *optional*):
            The former name of `measure`.

    Returns:
        [`Filtered`]: which pairs are kept, and the threshold.

    Raises:
        ValueError: the scores do not give the measure, or as in [`filter_values`] and [`combine_pair_uncertainty`].
    """
    values = compute_pair_uncertainty(chosen, rejected, _read_measure(measure, by), above)
    return filter_values(values, threshold=threshold, keep=keep)


def compute_pair_uncertainty(chosen: Any, rejected: Any, measure: str, above: str = "either") -> np.ndarray:
    """
    One measure of uncertainty for N pairs: what [`filter_pairs`] filters by, and [`fit_threshold`] takes.

    ```python
    values = compute_pair_uncertainty(chosen, rejected, "probability_near_half")
    ```

    Args:
        chosen (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            Scores of one side of N pairs.
        rejected (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            Scores of the other side, in the same order.
        measure (`str`):
            As in [`filter_pairs`].
        above (`str`, *optional*, defaults to `"either"`):
            As in [`combine_pair_uncertainty`]; not of "probability_near_half".

    Returns:
        `np.ndarray` of shape `(N,)`; higher = less sure.

    Raises:
        ValueError: the scores do not give the measure, or as in [`combine_pair_uncertainty`].
    """
    if measure != PROBABILITY_NEAR_HALF:
        return combine_pair_uncertainty(
            compute_uncertainty(chosen, measure), compute_uncertainty(rejected, measure), above
        )
    if above != "either":
        raise ValueError(f'`above` joins two sides, and {measure} is of the pair: leave it out, got "{above}".')
    return 0.5 - np.abs(compute_preference_probability(chosen, rejected) - 0.5)


def combine_pair_uncertainty(chosen: ArrayLike, rejected: ArrayLike, above: str = "either") -> np.ndarray:
    """
    One uncertainty for each of N pairs, from those of their sides.

    Args:
        chosen (`ArrayLike` of shape `(N,)`):
            The uncertainty of one side; higher = less sure.
        rejected (`ArrayLike` of shape `(N,)`):
            The uncertainty of the other side.
        above (`str`, *optional*, defaults to `"either"`):
            "either": the larger, so that a pair is dropped when either side is above the threshold (as in the paper's
            Fig. 6c); "both": the smaller, so that it is dropped only when both are.

    Returns:
        `np.ndarray` of shape `(N,)`.

    Raises:
        ValueError: sides of different length, a value that is not finite, or another `above`.
    """
    if above not in REDUCTIONS:
        raise ValueError(f'`above` must be "either" or "both", got {above!r}.')
    chosen, rejected = check_values(chosen), check_values(rejected)
    if len(chosen) != len(rejected):
        raise ValueError(f"Pairs have two sides, got {len(chosen)} chosen and {len(rejected)} rejected values.")
    return REDUCTIONS[above](chosen, rejected)


pair_values = renamed("pair_values", combine_pair_uncertainty)


def _read_measure(measure: str | None, by: str | None) -> str:
    """The measure, whichever of its two names it was given under."""
    if (measure is None) == (by is None):
        raise ValueError(f"Give `measure`, a key of `urm_hf.uncertainty.MEASURES`; got {measure!r} and by={by!r}.")
    if by is not None:
        warnings.warn("`by` is now `measure`.", DeprecationWarning, stacklevel=3)
    return by if measure is None else measure  # type: ignore[return-value]  # one of them is given
