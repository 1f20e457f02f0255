"""
Is one model better than another, or is that noise? Both judge the same items, so they are compared item by item.

Of two models that are equally good, either could have been the better one on each prompt: the test flips, prompt by
prompt, the sign of the difference. Over all flips, and not only a sample of them, where every item counts the same.
With one item to a prompt that is the exact test of McNemar (1947).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, permutation_test

from urm_hf.evaluation.entries import Comparison
from urm_hf.statistics.bootstrap import compute_interval, resample_counts, rows_by_group

MCNEMAR = "McNemar, exact"
SIGN_FLIPS = "sign flips by prompt, exact"
SAMPLED_FLIPS = "sign flips by prompt"
FLIPS = 9999  # where there are too many to go through
REACH = 100_000  # up to which sums of whole numbers are gone through


@dataclass(frozen=True)
class JudgedModel:
    """
    R decisions of one model.

    Args:
        right: (R) whether it is right. shares: (R) what each decision adds to the accuracy, which is their sum.
        prompts: (R) keys.
        draws: (S) the accuracy in samples of prompts, the same ones for every model.
    """

    right: np.ndarray
    shares: np.ndarray
    prompts: Sequence[str]
    draws: np.ndarray


def compare_decisions(models: Mapping[str, JudgedModel], baselines: Collection[str] = ()) -> list[Comparison]:
    """
    Every two models' accuracies, without the data set, which `evaluate` adds.

    difference: accuracy of a, less that of b; its 95 % interval is over samples of prompts. p_value: two-sided;
    p_adjusted: Holm's, in two families: models against models, and models against `baselines`, which are not compared
    with each other. How many models are compared says nothing of whether one of them beats a rule.

    Args:
        models: of the same decisions, baselines among them.
    """
    found = []
    for a, b in combinations(models, 2):
        if a in baselines and b in baselines:
            continue
        one, other = models[a], models[b]
        _check_same(a, one, b, other)
        differences, prompts = one.shares - other.shares, one.prompts
        bounds = compute_interval(one.draws - other.draws) if len(set(prompts)) > 1 else None
        p_value, test = _tested(differences, prompts)
        only_a, only_b = int((one.right & ~other.right).sum()), int((other.right & ~one.right).sum())
        found.append(
            Comparison(
                model_a=a,
                model_b=b,
                difference=float(differences.sum()),
                interval=bounds,
                n=len(prompts),
                prompts=len(set(prompts)),
                only_a=only_a,
                only_b=only_b,
                p_value=p_value,
                test=test,
            )
        )
    return _adjust(found, baselines)


def _tested(differences: np.ndarray, prompts: Sequence[str]) -> tuple[float, str]:
    """The p-value, and the test: exact where differences are multiples of one number."""
    by_prompt = _by_prompt(differences, prompts)
    sizes = np.abs(differences)
    # shares are fractions such as 1/258; as whole multiples of the smallest, their sums can be counted exactly
    unit = sizes[sizes > 1e-12].min() if (sizes > 1e-12).any() else 1.0
    multiples = np.round(differences / unit)
    if np.abs(differences / unit - multiples).max() > 1e-6 or np.abs(multiples).sum() > REACH:
        return sampled_flip_p_value(by_prompt[np.abs(by_prompt) > 1e-12]), SAMPLED_FLIPS
    # several items of a prompt stand or fall together: flipping each by itself would take them for independent
    if len(by_prompt) < len(prompts):
        return sign_flip_p_value(np.round(by_prompt / unit)), SIGN_FLIPS
    if np.abs(multiples).max() > 1:
        return sign_flip_p_value(multiples), SIGN_FLIPS
    return mcnemar_p_value(int((multiples > 0).sum()), int((multiples < 0).sum())), MCNEMAR


def _check_same(a: str, one: JudgedModel, b: str, other: JudgedModel):
    if list(one.prompts) != list(other.prompts) or not len(one.prompts):
        raise ValueError(
            f"{a} has {len(one.prompts)} decisions and {b} has {len(other.prompts)}: the same ones, at least one, are "
            "needed of both."
        )


def compare_losses(
    losses: Mapping[str, ArrayLike], prompts: Sequence[str], metric: str, samples: int = 1000, seed: int = 0
) -> list[Comparison]:
    """
    The same for a loss of each row, such as its NLL: the mean of a less that of b, so that below 0 a is better.

    only_a and only_b are None; `metric` says what the difference is of. The test goes through all flips of up to 13
    prompts, else through 9999 random ones.
    """
    models = {name: _checked(name, values, prompts) for name, values in losses.items()}
    found = []
    for a, b in combinations(models, 2):
        differences = models[a] - models[b]
        p_value = sampled_flip_p_value(_by_prompt(differences, prompts), seed)
        found.append(
            Comparison(
                model_a=a,
                model_b=b,
                difference=float(differences.mean()),
                interval=_interval_of_mean(differences, prompts, samples, seed),
                n=len(prompts),
                prompts=len(set(prompts)),
                p_value=p_value,
                test=SAMPLED_FLIPS,
                metric=metric,
            )
        )
    return _adjust(found)


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Two-sided: of the items on which the models differ, each is equally likely to be right."""
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def sign_flip_p_value(differences: np.ndarray) -> float:
    """
    P(|sum of +-d_k| >= |sum of d_k|) where all signs are equally likely, exactly.

    Args:
        differences: whole numbers, one for each prompt.
    """
    # a prompt on which the models agree adds 0 whatever its sign
    sizes = np.abs(differences[differences != 0]).astype(np.int64)
    reach = int(sizes.sum())
    chances = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chances[reach] = 1
    for size in sizes:
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2  # sums stay within reach: nothing wraps round
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(chances[sums >= abs(differences.sum())].sum()))


def sampled_flip_p_value(differences: np.ndarray, seed: int = 0) -> float:
    """The same for any numbers, from FLIPS random flips; exact where there are fewer than these."""
    if len(differences) < 2 or not differences.any():
        return 1.0
    return float(
        permutation_test(
            (differences,),
            lambda d, axis: d.sum(axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=FLIPS,
            batch=max(1, 2_000_000 // len(differences)),  # 16 MB of flipped signs at a time
            rng=np.random.default_rng(seed),
        ).pvalue
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for as many comparisons (Holm, 1979): at most their number times as large, order kept."""
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(stepped))
    return adjusted.tolist()


def _interval_of_mean(
    differences: np.ndarray, prompts: Sequence[str], samples: int, seed: int
) -> tuple[float, float] | None:
    draws = resample_counts(lambda counts: {"mean": counts @ differences / counts.sum(1)}, prompts, samples, seed)
    return compute_interval(draws.get("mean"))


def _adjust(comparisons: list[Comparison], baselines: Collection[str] = ()) -> list[Comparison]:
    """With p_adjusted: Holm's among the models, and among the comparisons with baselines."""
    adjusted = list(comparisons)
    # two families: with each baseline that is added, it would otherwise get harder to tell models apart
    for with_baseline in (False, True):
        family = [
            number
            for number, one in enumerate(comparisons)
            if (one.model_a in baselines or one.model_b in baselines) == with_baseline
        ]
        p_values = holm([comparisons[number].p_value for number in family])
        for number, p in zip(family, p_values, strict=True):
            adjusted[number] = replace(comparisons[number], p_adjusted=p)
    return adjusted


def _by_prompt(differences: np.ndarray, prompts: Sequence[str]) -> np.ndarray:
    return np.array([differences[rows].sum() for rows in rows_by_group(prompts)])


def _checked(name: str, values: ArrayLike, prompts: Sequence[str]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.shape != (len(prompts),) or not len(prompts):
        raise ValueError(f"{name} has values of shape {array.shape}, for {len(prompts)} rows: one is needed for each.")
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array))[0])
        raise ValueError(f"{name} has {array[row]} in row {row}; values must be finite.")
    return array
