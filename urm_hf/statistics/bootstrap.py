"""Rows that belong together, as answers to one prompt do: which they are, and intervals that take them as one."""

import warnings
from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np

_COUNTS_AT_ONCE = 4_000_000  # numbers in memory while resampling


def rows_by_group(groups: Iterable[Hashable]) -> list[np.ndarray]:
    """The rows of each group, in the order in which the groups first occur."""
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.array(members) for members in rows.values()]


def numbered(groups: Iterable[Hashable]) -> np.ndarray:
    """The group of each row as a number, from 0, in the order in which the groups first occur."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def bootstrap_intervals(
    measure: Callable[[np.ndarray], dict[str, float]], clusters: Sequence[np.ndarray], samples: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """
    95 % percentile intervals over samples of whole clusters.

    Args:
        measure: metrics, by name, of the rows that it is given. Those that are NaN in a sample are left out of theirs;
            of one that is NaN in all samples the interval is NaN.
        clusters: the rows of each cluster.
    """
    rng = np.random.default_rng(seed)
    draws = [
        measure(np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))]))
        for _ in range(samples)
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        bounds = {name: np.nanquantile([draw[name] for draw in draws], [0.025, 0.975]) for name in draws[0]}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def bootstrap_means(
    sums: np.ndarray, sizes: np.ndarray, strata: Sequence[Hashable], samples: int, seed: int = 0
) -> np.ndarray:
    """
    Means of K columns in samples of whole clusters, (samples, K): what [`bootstrap_intervals`] draws, but for means
    only, at once. Each stratum gives as many clusters to a sample as it has.

    Args:
        sums, sizes: (C, K), in each cluster the total of a column's values, and how many there are.
        strata: of each of the C clusters.

    A mean is NaN in a sample that holds none of its column's values; a column that fills whole strata has no such.
    """
    rng = np.random.default_rng(seed)
    members = rows_by_group(strata)
    at_once = max(1, _COUNTS_AT_ONCE // len(sums))
    means = []
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        counts = np.empty((rows, len(sums)))
        for clusters in members:
            counts[:, clusters] = times_drawn(rng, rows, len(clusters))
        with np.errstate(invalid="ignore"):
            means.append(counts @ sums / (counts @ sizes))
    return np.concatenate(means)


def times_drawn(rng: np.random.Generator, rows: int, n: int) -> np.ndarray:
    """How often each of n is among n draws with replacement, (rows, n)."""
    drawn = rng.integers(0, n, (rows, n)) + n * np.arange(rows)[:, None]
    return np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
