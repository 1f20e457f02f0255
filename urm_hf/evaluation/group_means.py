"""Accuracies as benchmarks define them: means over groups of rows, and means of such means, each with its interval."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.clusters import bootstrap_means
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.resampling import interval_of_share


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
    masks = np.stack([mask for mean in means for mask, _ in mean.parts], axis=1)  # (N, K)
    weights = np.zeros((masks.shape[1], len(means)))
    last = np.cumsum([len(mean.parts) for mean in means])
    for number, mean in enumerate(means):
        weights[last[number] - len(mean.parts) : last[number], number] = [weight for _, weight in mean.parts]
    found = (outcomes.values @ masks / masks.sum(0)) @ weights
    numbers: dict[str, int] = {}
    prompts = np.array([numbers.setdefault(prompt, len(numbers)) for prompt in outcomes.prompts])
    draws = _draws(outcomes.values, masks, prompts, samples, seed) @ weights if samples else None
    measured = []
    for number, mean in enumerate(means):
        inside = masks[:, weights[:, number] != 0].any(1)
        values, different = outcomes.values[inside], len(np.unique(prompts[inside]))
        same = float(values[0]) if np.all(values == values[0]) else math.nan
        varied = draws[:, number] if draws is not None and different > 1 else None
        interval = interval_of_share(same, different, varied)
        n = len(np.unique(outcomes.rows[inside]))
        measured.append(Measured(metric, float(found[number]), interval, n, different, mean.level, mean.group))
    return measured


def _draws(values: np.ndarray, masks: np.ndarray, prompts: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """(samples, K) means of each mask in samples of prompts, which are numbered from 0."""
    sizes = np.zeros((prompts.max() + 1, masks.shape[1]))
    sums = np.zeros_like(sizes)
    np.add.at(sizes, prompts, masks)
    np.add.at(sums, prompts, masks * values[:, None])
    strata = [parts.tobytes() for parts in sizes > 0]
    return bootstrap_means(sums, sizes, strata, samples, seed)
