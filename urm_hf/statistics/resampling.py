"""Samples of whole prompts, written as how often each row is in them: metrics of many samples are computed at once."""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import binomtest

from urm_hf.statistics.bootstrap import numbered, times_drawn

_NUMBERS_AT_ONCE = 2_000_000  # in one array of counts


def resampled(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], prompts: Sequence[str], samples: int, seed: int
) -> dict[str, np.ndarray]:
    """
    Metrics in samples of prompts, drawn with replacement, by name: (samples, ...) each; empty if there is one prompt.

    Args:
        measure: metrics (S, ...) of S samples, given how often each of N rows is in each, integers (S, N).
        prompts: (N) rows of one prompt are drawn together.
    """
    clusters, cluster_of_row = len(set(prompts)), numbered(prompts)
    if clusters < 2 or samples < 1:
        return {}
    rng, found = np.random.default_rng(seed), []
    at_once = max(1, _NUMBERS_AT_ONCE // len(prompts))
    for start in range(0, samples, at_once):
        found.append(measure(times_drawn(rng, min(at_once, samples - start), clusters)[:, cluster_of_row]))
    return {name: np.concatenate([values[name] for values in found]) for name in found[0]}


def interval(draws: np.ndarray | None) -> tuple[float, float] | None:
    """95 % percentile interval of draws (S,), NaN left out; None where there are none, or all are the same."""
    if draws is None or not np.isfinite(draws).any() or np.nanmin(draws) == np.nanmax(draws):
        return None
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return float(low), float(high)


def interval_of_share(share: float, prompts: int, draws: np.ndarray | None) -> tuple[float, float] | None:
    """
    The same for a share of rows that are right. If all are right, or all wrong, samples do not vary: then the interval
    of Clopper and Pearson, of as many trials as there are prompts.
    """
    if draws is None or share not in (0, 1):
        return interval(draws)
    exact = binomtest(int(share) * prompts, prompts).proportion_ci(0.95, method="exact")
    return float(exact.low), float(exact.high)
