"""
Is one model better than another, or is that noise? Both judge the same items, so they are compared item by item.

Of two models that are equally good, either could have been the better one on each prompt: the test flips, prompt by
prompt, the sign of the difference. Over all flips, and not only a sample of them, where differences are whole numbers
(items that are right or wrong). With one item to a prompt that is the exact test of McNemar (1947).
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest, permutation_test

from urm_hf.clusters import rows_by_group
from urm_hf.evaluation.resampling import interval, resampled

MCNEMAR = "McNemar, exact"
SIGN_FLIPS = "sign flips by prompt, exact"
SAMPLED_FLIPS = "sign flips by prompt"
FLIPS = 9999  # where there are too many to go through


def compare_decisions(
    decisions: Mapping[str, ArrayLike], prompts: Sequence[str], samples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """
    Every two models' decisions: entries of `comparisons` in `results.json`, without the data set.

    difference: share of items that a gets right, less that of b, each item counting once; its 95 % interval is over
    samples of prompts. p_value: two-sided; p_adjusted: Holm's, for all the comparisons that are returned.

    Args:
        decisions: (I) of each model, whether it is right (`urm_hf.evaluation.accuracy.decisions`).
        prompts: (I) keys.
    """
    models = {name: _checked(name, values, prompts) for name, values in decisions.items()}
    for name, values in models.items():
        if not np.isin(values, (0, 1)).all():
            raise ValueError(f"the decisions of {name} must be right or wrong (1 or 0).")
    repeated = len(set(prompts)) < len(prompts)
    found = []
    for a, b in combinations(models, 2):
        differences = models[a] - models[b]
        only_a, only_b = int((differences > 0).sum()), int((differences < 0).sum())
        p_value = sign_flip_p_value(_by_prompt(differences, prompts)) if repeated else mcnemar_p_value(only_a, only_b)
        compared = _compared(a, b, differences, prompts, samples, seed)
        test = SIGN_FLIPS if repeated else MCNEMAR
        found.append(compared | {"only_a": only_a, "only_b": only_b, "p_value": p_value, "test": test})
    return _adjusted(found)


def compare_losses(
    losses: Mapping[str, ArrayLike], prompts: Sequence[str], metric: str, samples: int = 1000, seed: int = 0
) -> list[dict[str, Any]]:
    """
    The same for a loss of each row, such as its NLL: the mean of a less that of b, so that below 0 a is better.

    only_a and only_b, the rows that one gets right and the other wrong, are None; `metric` says what the difference is
    of. The test goes through all flips of up to 13 prompts, else through 9999 random ones.
    """
    models = {name: _checked(name, values, prompts) for name, values in losses.items()}
    found = []
    for a, b in combinations(models, 2):
        differences = models[a] - models[b]
        p_value = sampled_flip_p_value(_by_prompt(differences, prompts), seed)
        more = {"metric": metric, "only_a": None, "only_b": None, "p_value": p_value, "test": SAMPLED_FLIPS}
        found.append(_compared(a, b, differences, prompts, samples, seed) | more)
    return _adjusted(found)


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """Two-sided: of the items on which the models differ, each is equally likely to be right."""
    return float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0


def sign_flip_p_value(differences: np.ndarray) -> float:
    """
    P(|sum of +-d_k| >= |sum of d_k|) where all signs are equally likely, exactly.

    Args:
        differences: whole numbers, one for each prompt.
    """
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
            batch=max(1, 2_000_000 // len(differences)),
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


def _compared(
    a: str, b: str, differences: np.ndarray, prompts: Sequence[str], samples: int, seed: int
) -> dict[str, Any]:
    draws = resampled(lambda counts: {"mean": counts @ differences / counts.sum(1)}, prompts, samples, seed)
    bounds = interval(draws.get("mean"))
    return {
        "model_a": a,
        "model_b": b,
        "difference": float(differences.mean()),
        "interval": bounds and list(bounds),
        "n": len(differences),
        "prompts": len(set(prompts)),
    }


def _adjusted(comparisons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    adjusted = holm([found["p_value"] for found in comparisons])
    return [found | {"p_adjusted": p} for found, p in zip(comparisons, adjusted, strict=True)]


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
