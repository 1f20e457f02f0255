"""
The bootstrap: samples of whole clusters, as answers to one prompt are one, and intervals of any metric over them.

Every interval of this package comes from `draw_samples`. What differs is how a metric takes a sample: as the numbers
of its rows (`bootstrap_intervals`), as how often each row is in it, many samples at once (`resample_counts`), or, of
means alone, as sums over clusters (`bootstrap_means`). All of the same seed are of the same samples.
"""

import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

import numpy as np
from scipy.stats import binomtest

_NUMBERS_AT_ONCE = 2_000_000  # in one array of draws or of counts


def rows_by_group(groups: Iterable[Hashable]) -> list[np.ndarray]:
    """
    The rows of each group, in the order in which the groups first occur.

    Args:
        groups (`Iterable`): of each row, such as its prompt.

    Returns:
        `list[np.ndarray]`: numbers of the rows of each group.
    """
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    return [np.array(members) for members in rows.values()]


def number_groups(groups: Iterable[Hashable]) -> np.ndarray:
    """The group of each row as a number, from 0, in the order in which the groups first occur."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in groups])


def draw_samples(
    strata: Sequence[np.ndarray], samples: int, seed: int = 0, at_once: int | None = None
) -> Iterator[np.ndarray]:
    """
    Samples with replacement, in blocks, (S, C) each: of every sample the C clusters in it.

    Args:
        strata (`Sequence[np.ndarray]`): numbers of the clusters of each stratum. A stratum gives as many clusters to
            every sample as it has, so that none is ever missing from one.
        samples (`int`): how many in all.
        seed (`int`, *optional*, defaults to 0): of the draws.
        at_once (`int`, *optional*): samples in a block, which bounds the memory; default: all. Of one stratum, blocks
            change no draw.
    """
    rng = np.random.default_rng(seed)
    at_once = at_once or samples
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        drawn = []
        for members in strata:
            places = rng.integers(0, len(members), (rows, len(members)))  # (S, C) of this stratum
            drawn.append(members[places])
        yield np.concatenate(drawn, axis=1)


def count_draws(drawn: np.ndarray, clusters: int) -> np.ndarray:
    """
    How often each cluster is in each sample.

    Args:
        drawn (`np.ndarray` of shape `(S, C)`): numbers of the clusters in each sample, as [`draw_samples`] gives them.
        clusters (`int`): how many there are.

    Returns:
        `np.ndarray` of shape `(S, clusters)`.
    """
    samples = len(drawn)
    apart = drawn + clusters * np.arange(samples)[:, None]  # one `bincount` for all samples
    return np.bincount(apart.ravel(), minlength=samples * clusters).reshape(samples, clusters)


def bootstrap_intervals(
    measure: Callable[[np.ndarray], dict[str, float]], clusters: Sequence[np.ndarray], samples: int, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """
    95 % percentile intervals over samples of whole clusters.

    Args:
        measure (`Callable`): metrics, by name, of the rows that it is given. Those that are NaN in a sample are left
            out of theirs; of one that is NaN in all samples the interval is NaN.
        clusters (`Sequence[np.ndarray]`): the rows of each cluster.
        samples (`int`): how many are drawn.
        seed (`int`, *optional*, defaults to 0): of the draws.
    """
    draws = []
    for block in draw_samples([np.arange(len(clusters))], samples, seed, count_at_once(len(clusters))):
        for drawn in block:
            # a cluster that is drawn twice has all of its rows in the sample twice
            rows = np.concatenate([clusters[cluster] for cluster in drawn])
            draws.append(measure(rows))
    intervals = {}
    for name in draws[0]:
        values = np.array([draw[name] for draw in draws])  # (samples,)
        intervals[name] = compute_percentiles(values)
    return intervals


def resample_counts(
    measure: Callable[[np.ndarray], dict[str, np.ndarray]], prompts: Sequence[Hashable], samples: int, seed: int
) -> dict[str, np.ndarray]:
    """
    Metrics in samples of prompts, by name: (samples, ...) each; empty if there is one prompt.

    Args:
        measure (`Callable`): metrics (S, ...) of S samples, given how often each of N rows is in each, integers
            (S, N).
        prompts (`Sequence`): (N) rows of one prompt are drawn together.
        samples (`int`): how many are drawn; none gives an empty mapping.
        seed (`int`): of the draws.
    """
    clusters, cluster_of_row = len(set(prompts)), number_groups(prompts)
    # one cluster is all of every sample: an interval of no width would claim a certainty that there is not
    if clusters < 2 or samples < 1:
        return {}
    blocks = []
    for drawn in draw_samples([np.arange(clusters)], samples, seed, count_at_once(len(prompts))):
        blocks.append(measure(count_draws(drawn, clusters)[:, cluster_of_row]))
    joined = {}
    for name in blocks[0]:
        joined[name] = np.concatenate([values[name] for values in blocks])  # (samples, ...)
    return joined


def bootstrap_means(
    sums: np.ndarray, sizes: np.ndarray, strata: Sequence[Hashable], samples: int, seed: int = 0
) -> np.ndarray:
    """
    Means of K columns in samples of whole clusters, (samples, K): what [`bootstrap_intervals`] draws, but for means
    only, at once. Each stratum gives as many clusters to a sample as it has.

    Args:
        sums, sizes (`np.ndarray`): (C, K), in each cluster the total of a column's values, and how many there are.
        strata (`Sequence`): of each of the C clusters.
        samples (`int`): how many are drawn.
        seed (`int`, *optional*, defaults to 0): of the draws.

    A mean is NaN in a sample that holds none of its column's values; a column that fills whole strata has no such.
    """
    means = []
    # blocks change the draws of several strata: with another size the same seed would give other intervals than before
    at_once = 2 * count_at_once(len(sums))
    for drawn in draw_samples(rows_by_group(strata), samples, seed, at_once):
        counts = count_draws(drawn, len(sums)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append(counts @ sums / (counts @ sizes))
    return np.concatenate(means)


def compute_percentiles(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """
    The interval that leaves out equal tails of draws.

    Args:
        draws (`np.ndarray` of shape `(S,)`): values in samples; NaN is left out.
        confidence (`float`, *optional*, defaults to `0.95`): the share of the draws between the ends.

    Returns:
        `tuple[float, float]`: NaN if all draws are.
    """
    tail = round((1 - confidence) / 2, 12)  # 0.025, not the float beside it
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="All-NaN slice encountered")
        low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def compute_interval(draws: np.ndarray | None) -> tuple[float, float] | None:
    """95 % percentile interval of draws (S,), NaN left out; None where there are none, or all are the same."""
    # where all samples agree, they show no spread, not that there is none
    if draws is None or not np.isfinite(draws).any() or np.nanmin(draws) == np.nanmax(draws):
        return None
    return compute_percentiles(draws)


def compute_interval_of_share(share: float, prompts: int, draws: np.ndarray | None) -> tuple[float, float] | None:
    """
    The same for a share of rows that are right.

    If all are right, or all wrong, samples do not vary: then the interval of Clopper and Pearson (1934,
    doi:10.1093/biomet/26.4.404), of as many trials as there are prompts.

    Args:
        share (`float`): of all rows.
        prompts (`int`): different ones, as rows of one prompt are no independent trials.
        draws (`np.ndarray` of shape `(S,)`, *optional*): the share in samples.
    """
    if draws is None or share not in (0, 1):
        return compute_interval(draws)
    exact = binomtest(int(share) * prompts, prompts).proportion_ci(0.95, method="exact")
    return float(exact.low), float(exact.high)


def count_at_once(numbers: int) -> int:
    """How many samples of so many numbers are drawn at once."""
    return max(1, _NUMBERS_AT_ONCE // numbers)
