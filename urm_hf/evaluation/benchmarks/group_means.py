"""Accuracies as benchmarks define them: means over groups of rows, and means of such means, each with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.evaluation.measured import Measured
from urm_hf.statistics.bootstrap import bootstrap_means, compute_interval_of_share, number_groups


@dataclass(frozen=True)
class Outcomes:
    """
    What a model got right, in N values.

    Args:
        values: (N) 1 = right, 0 = wrong, or a share.
        rows: (N) the item or pair that a value is of; what is counted as n.
        prompts: (N) values of one prompt are resampled together.
    """

    values: np.ndarray
    rows: np.ndarray
    prompts: Sequence[str]


@dataclass(frozen=True)
class GroupMean:
    """
    A number to report: the sum of the means of some parts of the values, each by its weight.

    Args:
        level, group: its place in the results (`Measured`).
        parts: of each a mask (N) over the values, true somewhere, and a weight.
    """

    level: str | None
    group: str | None
    parts: Sequence[tuple[np.ndarray, float]]


def measured_means(
    metric: str, outcomes: Outcomes, means: Sequence[GroupMean], samples: int = 0, seed: int = 0
) -> list[Measured]:
    """
    Each mean with its interval over samples of prompts; without samples, no intervals.

    Prompts are drawn within strata, those that occur in the same parts, so that no part is empty in any sample.
    """
    masks, weights = _parts(means)
    found = (outcomes.values @ masks / masks.sum(0)) @ weights
    prompts = number_groups(outcomes.prompts)
    draws = mean_draws(outcomes, means, samples, seed) if samples else None
    measured = []
    for number, mean in enumerate(means):
        inside = np.any([mask for mask, weight in mean.parts if weight], axis=0)
        values, different = outcomes.values[inside], len(np.unique(prompts[inside]))
        same = float(values[0]) if np.all(values == values[0]) else math.nan
        varied = draws[:, number] if draws is not None and different > 1 else None
        interval = compute_interval_of_share(same, different, varied)
        n = len(np.unique(outcomes.rows[inside]))
        measured.append(Measured(metric, float(found[number]), interval, n, different, mean.level, mean.group))
    return measured


def mean_draws(outcomes: Outcomes, means: Sequence[GroupMean], samples: int, seed: int) -> np.ndarray:
    """
    (samples, M) each mean in samples of prompts. Outcomes of the same rows are drawn alike, whichever model's they
    are: the difference of two models' draws is that of a paired bootstrap.
    """
    masks, weights = _parts(means)
    prompts = number_groups(outcomes.prompts)
    sizes = np.zeros((prompts.max() + 1, masks.shape[1]))
    sums = np.zeros_like(sizes)
    np.add.at(sizes, prompts, masks)
    np.add.at(sums, prompts, masks * outcomes.values[:, None])
    strata = [parts.tobytes() for parts in sizes > 0]
    return bootstrap_means(sums, sizes, strata, samples, seed) @ weights


def compute_shares(mean: GroupMean) -> np.ndarray:
    """(N) what each value is multiplied by in this mean."""
    return sum((weight / mask.sum() * mask for mask, weight in mean.parts), np.zeros(len(mean.parts[0][0])))


def _parts(means: Sequence[GroupMean]) -> tuple[np.ndarray, np.ndarray]:
    """The masks (N, K) of the K parts of all means, and their weights (K, M) in each of them."""
    masks = np.stack([mask for mean in means for mask, _ in mean.parts], axis=1)
    weights = np.zeros((masks.shape[1], len(means)))
    last = np.cumsum([len(mean.parts) for mean in means])
    for number, mean in enumerate(means):
        weights[last[number] - len(mean.parts) : last[number], number] = [weight for _, weight in mean.parts]
    return masks, weights
