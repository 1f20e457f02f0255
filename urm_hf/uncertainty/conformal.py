"""
Intervals that cover: how many standard deviations hold a rating in a given share of cases, read from residuals.

With residuals e_i = |y_i - mean_i| / std_i of ratings that did not train what predicts them, the interval
mean -+ q std with q the ceil((N + 1) level)-th smallest e_i holds a new rating with probability `level` or more,
whatever the distribution, where ratings are exchangeable (Vovk, Gammerman & Shafer, 2005; with a std of each row: Lei
et al., 2018, J. Am. Stat. Assoc. 113, 1094-1111). Ratings of one row or one prompt are not: the share then holds on
average over prompts, and varies the more from data to data the fewer there are.

Shapes: N rows, n attributes, R ratings of each, L levels.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np

LEVELS = (0.5, 0.68, 0.8, 0.9, 0.95)
FOLDS = 5


def conformal_quantile(residuals: np.ndarray, level: float) -> float:
    """
    The ceil((N + 1) level)-th smallest of N residuals.

    Args:
        residuals (`np.ndarray`): (N,), zero or more.
        level (`float`): the share of new residuals that are to be below it, in (0, 1).

    Raises:
        ValueError: `level` is out of range, or N residuals are too few for it.
    """
    if not 0 < level < 1:
        raise ValueError(f"`level` must lie between 0 and 1, got {level}.")
    # rounded first: 0.7 * 10 is a little above 7 in floating point
    rank = max(math.ceil(round((len(residuals) + 1) * level, 6)), 1)
    if rank > len(residuals):
        raise ValueError(
            f"{len(residuals)} ratings are too few for intervals of {level:g}: they take {count_needed(level)}."
        )
    return float(np.partition(residuals, rank - 1)[rank - 1])


def count_needed(level: float) -> int:
    """The fewest ratings that an interval of this level can be read from."""
    return math.ceil(round(level / (1 - level), 6))


def fit_interval_factors(
    means: np.ndarray,
    stds: np.ndarray,
    ratings: np.ndarray,
    levels: Sequence[float] = LEVELS,
    attributes: Sequence[str] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> np.ndarray:
    """
    The factors q of intervals mean -+ q std, of each level and attribute.

    Args:
        means (`np.ndarray`): (N, n) predictions of ratings that did not train what predicts.
        stds (`np.ndarray`): (N, n) their standard deviations, above 0.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        levels (`list[float]`, *optional*): shares to cover.
        attributes (`list[str]`, *optional*): names, for errors.
        groups (`list`, *optional*): of length N, such as the prompts of rows. What rows of one group share is not
            averaged away by more of them: a level then takes as many groups as it takes independent ratings (Lee,
            Barber & Willett, 2023, arXiv:2306.06342). As in [`assign_folds`], rows that are all of one group are
            their own groups.

    Returns:
        `np.ndarray` of shape `(L, n)`: rising with the level.

    Raises:
        ValueError: an attribute has ratings of too few groups, or too few ratings, for a level; or shapes do not fit,
            or numbers are not finite or no standard deviations.
    """
    means, stds, ratings = (np.asarray(part, dtype=np.float64) for part in (means, stds, ratings))
    _check_predictions(means, stds, ratings, groups)
    if groups is not None:
        _check_groups(count_groups(ratings, groups), levels, attributes, len(set(groups)))
    residuals = np.abs(ratings - means[..., None]) / stds[..., None]  # (N, n, R)
    factors = np.empty((len(levels), residuals.shape[1]))
    for k in range(residuals.shape[1]):
        given = residuals[:, k][np.isfinite(residuals[:, k])]
        for place, level in enumerate(levels):
            try:
                factors[place, k] = conformal_quantile(given, level)
            except ValueError as error:
                name = f"attribute {k}" if attributes is None else repr(attributes[k])
                raise ValueError(f"{name}: {error}") from error
    return factors


def _check_predictions(means: np.ndarray, stds: np.ndarray, ratings: np.ndarray, groups: Sequence[Hashable] | None):
    """Whatever is not finite would be left out without a word, and fewer ratings be held than the level says."""
    if ratings.ndim != 3 or not means.shape == stds.shape == ratings.shape[:2]:
        raise ValueError(
            f"`means` and `stds` must be (N, n) and `ratings` (N, n, R), got {means.shape}, {stds.shape} and "
            f"{ratings.shape}."
        )
    if groups is not None and len(groups) != len(ratings):
        raise ValueError(f"`groups` must name the group of each of the {len(ratings)} rows, got {len(groups)}.")
    rated = ~np.isnan(ratings).all(-1)  # (N, n)
    right = {
        "means": np.isfinite(means) | ~rated,
        "stds": (np.isfinite(stds) & (stds > 0)) | ~rated,
        "ratings": ~np.isinf(ratings).any(-1),
    }
    for name, fine in right.items():
        if not fine.all():
            row, k = (int(place[0]) for place in np.nonzero(~fine))
            kind = "above 0 and finite" if name == "stds" else "finite"
            values = {"means": means, "stds": stds, "ratings": ratings}[name]
            raise ValueError(f"`{name}` must be {kind}, got {values[row, k]} in row {row} of attribute {k}.")


def count_groups(ratings: np.ndarray, groups: Sequence[Hashable]) -> list[int]:
    """
    Of how many groups each attribute has ratings.

    Args:
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        groups (`list`): of length N; rows that are all of one group are their own groups.
    """
    numbers, rated = number_groups(groups), np.isfinite(ratings).any(-1)  # (N,) and (N, n)
    return [len(np.unique(numbers[given])) for given in rated.T]


def _check_groups(counts: Sequence[int], levels: Sequence[float], attributes: Sequence[str] | None, total: int):
    for k, count in enumerate(counts):
        level = next((level for level in sorted(levels) if count < count_needed(level)), None)
        if level is None:
            continue
        name = f"attribute {k}" if attributes is None else repr(attributes[k])
        of = "rows, all of one prompt," if total == 1 else "prompt," if count == 1 else "prompts,"
        raise ValueError(
            f"{name}: its ratings are of {count} {of} and intervals of {level:g} take {count_needed(level)} that are "
            f"independent. Rate more {'rows' if total == 1 else 'prompts'}, or leave out levels from {level:g} on."
        )


def measure_coverage(
    means: np.ndarray, stds: np.ndarray, ratings: np.ndarray, factors: np.ndarray | float
) -> np.ndarray:
    """
    The share of ratings within mean -+ q std, `(n,)`; NaN of an attribute without ratings.

    Args:
        means, stds (`np.ndarray`): (N, n) each.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        factors (`np.ndarray` or `float`): (n,) q of each attribute, or one for all.
    """
    residuals = np.abs(ratings - means[..., None]) / stds[..., None]
    given = np.isfinite(residuals)
    inside = (residuals <= np.broadcast_to(factors, means.shape[1:])[:, None]) & given
    counts = given.sum((0, 2))
    return np.divide(inside.sum((0, 2)), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def assign_folds(groups: Sequence[Hashable], folds: int = FOLDS, seed: int = 0) -> np.ndarray:
    """
    A fold for each of N rows, `(N,)`: groups are never divided, and fall to folds of nearly as many groups at random.

    Where all rows are of one group, nothing tells them apart that a new row would not share: each is its own group.

    Args:
        groups (`list`): of length N, such as the prompts of rows.
        folds (`int`, *optional*, defaults to 5): their number; fewer where there are fewer groups.
        seed (`int`, *optional*, defaults to 0): of the draw.

    Raises:
        ValueError: fewer than two rows or folds.
    """
    if folds < 2 or len(groups) < 2:
        raise ValueError(f"cross-fitting needs two rows and two folds or more, got {len(groups)} and {folds}.")
    numbers = number_groups(groups)
    total = int(numbers.max()) + 1
    return (np.random.default_rng(seed).permutation(total) % min(folds, total))[numbers]


def number_groups(groups: Sequence[Hashable]) -> np.ndarray:
    """The number of each row's group, from 0 in order of appearance, `(N,)`; rows of one group alone are their own."""
    numbers: dict[Hashable, int] = {}
    members = np.array([numbers.setdefault(group, len(numbers)) for group in groups], dtype=int)
    return np.arange(len(members)) if len(numbers) == 1 else members
