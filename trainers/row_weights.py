"""
The column `weight` of rated rows, where a posterior is fitted: a row of weight 2 is one that stands there twice.

That is what it means in training, where it multiplies the loss of its row.
"""

import numpy as np

from urm_hf.uncertainty.moments import Moments

MOST_PARTS = 16  # of the mean weight


def count_copies(weights: np.ndarray) -> np.ndarray:
    """
    The numbers of rows, each as often as it is counted where residuals are, in proportion to its weight.

    The proportion is exact where all weights are whole multiples of the smallest, or of a part of it down to a
    sixteenth of their mean. Others are rounded to such sixteenths, and count once at least.

    Args:
        weights (`np.ndarray`): (N,) above 0.

    Raises:
        ValueError: a weight is not above 0 and finite.
    """
    if not (np.isfinite(weights) & (weights > 0)).all():
        raise ValueError(f"`weights` must be above 0 and finite, got {weights.min():g} to {weights.max():g}.")
    unit = weights.mean() / MOST_PARTS
    for parts in range(1, MOST_PARTS + 1):
        multiples = weights * (parts / weights.min())
        if multiples.mean() <= MOST_PARTS and np.abs(multiples - multiples.round()).max() < 1e-6:
            unit = weights.min() / parts
            break
    return np.repeat(np.arange(len(weights)), np.maximum((weights / unit).round().astype(int), 1))


def add_weighted(
    moments: Moments,
    hidden: np.ndarray,
    ratings: np.ndarray,
    precisions: np.ndarray | None = None,
    weights: np.ndarray | None = None,
):
    """
    [`Moments.add`] of rows that stand there so many times.

    Not the same as a precision: a rating of twice the precision has half the variance of noise, and is one rating.

    Args:
        moments ([`Moments`]): to add to. hidden, ratings: as of [`Moments.add`].
        precisions (`np.ndarray`, *optional*): (N,) of a row's ratings, what [`Moments.add`] calls weights.
        weights (`np.ndarray`, *optional*): (N,) above 0, how often each row counts; once by default.
    """
    if weights is None:
        moments.add(hidden, ratings, precisions)
        return
    precisions = np.ones(len(hidden)) if precisions is None else precisions
    moments.add(hidden, ratings, precisions * weights)
    given = np.isfinite(ratings).sum(-1)  # (N, n)
    # all other sums are linear in the weight
    moments.ratings += (weights - 1) @ given
    moments.inverse_mass += (weights / precisions - 1 / (precisions * weights)) @ given
