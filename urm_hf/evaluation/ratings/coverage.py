"""Whether intervals hold as many ratings of short conversations as of long ones."""

from collections.abc import Mapping, Sequence

import numpy as np

from urm_hf.evaluation.measured import with_intervals
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.ratings.data import RatingSet
from urm_hf.statistics.bootstrap import rows_by_group

PARTS = 3  # of the conversations, by their length
Z = {"68": 1.0, "95": 1.96}


def coverage_by_length(
    data: RatingSet,
    attributes: Sequence[str],
    means: np.ndarray,
    stds: np.ndarray,
    intervals: Mapping[str, np.ndarray],
    lengths: np.ndarray,
    samples: int,
    seed: int,
) -> Measurements:
    """
    The shares of ratings inside mu -+ sigma and mu -+ 1.96 sigma, and inside calibrated intervals, averaged over
    attributes, of the shortest, the middle and the longest third of the conversations.

    Args:
        means, stds (`np.ndarray`): (N, n) each, of these attributes of the data.
        intervals (`dict[str, np.ndarray]`): lower and upper ends (N, n, 2) by the level in per cent.
        lengths (`np.ndarray`): (N,) tokens of each conversation.
    """
    ratings = data.ratings[:, [data.attributes.index(attribute) for attribute in attributes]]
    held = {f"coverage{level}": hold_ratings(ratings, means - z * stds, means + z * stds) for level, z in Z.items()}
    held |= {
        f"interval_coverage{level}": hold_ratings(ratings, ends[..., 0], ends[..., 1])
        for level, ends in intervals.items()
        if level in Z
    }
    bounds = np.quantile(lengths, np.arange(1, PARTS) / PARTS, method="inverted_cdf")
    parts = np.searchsorted(bounds, lengths)  # a length at a bound belongs below it
    found = Measurements()
    for part in np.unique(parts):
        rows = np.flatnonzero(parts == part)
        group = f"{lengths[rows].min()} to {lengths[rows].max()} tokens"

        def measure(chosen: np.ndarray, rows=rows) -> dict[str, float]:
            return {metric: _average(share_held(inside[rows[chosen]])) for metric, inside in held.items()}

        clusters = rows_by_group([data.prompts[row] for row in rows])
        measured = with_intervals(measure, len(rows), clusters, samples, seed, level="length", group=group)
        found = found + Measurements([one for one in measured if not np.isnan(one.value)])
    return found


def hold_ratings(ratings: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N, n, R) of ratings and ends (N, n): 1 where a rating is inside, 0 where it is not, NaN where there is none."""
    inside = (low[..., None] <= ratings) & (ratings <= high[..., None])
    return np.where(np.isnan(ratings), np.nan, inside)


def share_held(inside: np.ndarray) -> np.ndarray:
    """(n,) of what `hold_ratings` gave: the share of an attribute's ratings; NaN where there is none."""
    counts = (~np.isnan(inside)).sum((0, 2))
    return np.divide(np.nansum(inside, axis=(0, 2)), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def _average(shares: np.ndarray) -> float:
    """Over the attributes that have one."""
    given = shares[~np.isnan(shares)]
    return float(given.mean()) if len(given) else float("nan")
