"""Rows that belong together, as answers to one prompt do: which they are, and intervals that take them as one."""

from collections.abc import Callable, Hashable, Iterable, Sequence

import numpy as np


def rows_by_group(groups: Iterable[Hashable]) -> list[np.ndarray]:
    """The rows of each group, in the order in which the groups first occur."""
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.array(members) for members in rows.values()]


def bootstrap_intervals(
    measure: Callable[[np.ndarray], dict[str, float]], clusters: Sequence[np.ndarray], samples: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """
    95 % percentile intervals over samples of whole clusters.

    Args:
        measure: metrics, by name, of the rows that it is given. Those that are NaN in a sample are left out of theirs.
        clusters: the rows of each cluster.
    """
    rng = np.random.default_rng(seed)
    draws = [
        measure(np.concatenate([clusters[i] for i in rng.integers(0, len(clusters), len(clusters))]))
        for _ in range(samples)
    ]
    bounds = {name: np.nanquantile([draw[name] for draw in draws], [0.025, 0.975]) for name in draws[0]}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}
