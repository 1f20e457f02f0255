"""
What is not known about a reward: measures of uncertainty, preference under uncertainty, intervals.

Shapes: N conversations, n attributes, M ensemble members. Every measure is (N,), and higher means less sure.
"""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from transformers.utils import ModelOutput

from urm_hf.moved import renamed
from urm_hf.scores import output_rows
from urm_hf.uncertainty.measure_catalogue import FIELDS, MEASURES, Measure

Scales = Mapping[str, float] | Sequence[float]


def compute_uncertainty(scores: Any, measure: str, scales: Scales | None = None) -> np.ndarray:
    """
    One measure of uncertainty for N conversations. `MEASURES` describes each.

    Measures over attributes add their squares as they are: an attribute rated from 0 to 100 counts ten thousand times
    as much as one rated from 0 to 1. Where attributes have different scales, pass `scales`; the unit is then that of
    the scales (with `scales=model.config.label_stds`: standard deviations of the ratings).

    ```python
    compute_uncertainty(scorer.score(rows), measure="epistemic")
    ```

    Args:
        scores (`list[RewardScore]`, `list[dict]` or `ModelOutput`):
            What `RewardScorer.score` returned, the rows of a file that `urm score` wrote, or a `URMOutput` or
            `URMEnsembleOutput`.
        measure (`str`):
            A key of `MEASURES`.
        scales (`dict[str, float]` or `list[float]`, *optional*):
            Divides each attribute's means and stds: by name, or in the attributes' order.

    Returns:
        `np.ndarray` of shape `(N,)`, float64: zero or more; higher = less sure.

    Raises:
        ValueError: no such measure; a model does not give it; the numbers of a row are not finite.
    """
    if measure not in MEASURES:
        raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {measure!r}.")
    if scales is not None and not MEASURES[measure].by_attribute:
        raise ValueError(f"{measure} is in the unit of the reward: `scales` of attributes do not apply to it.")
    rows = _read_rows(scores)
    for number, row in enumerate(rows):
        _check_given(row, measure, f"Row {number}")
    if scales is None:
        values = np.array([FIELDS[measure](row) for row in rows], dtype=np.float64)
    else:
        values = _compute_scaled(rows, measure, scales)
    unsound = np.flatnonzero(~np.isfinite(values))
    if len(unsound):
        raise ValueError(f"{measure} is not finite in rows {unsound[:8].tolist()}: {values[unsound[:8]].tolist()}.")
    return values


def measure(scores: Any, name: str, scales: Scales | None = None) -> np.ndarray:
    """The former name of [`compute_uncertainty`]."""
    warnings.warn("measure is now compute_uncertainty.", DeprecationWarning, stacklevel=2)
    return compute_uncertainty(scores, name, scales)


def available(scores: Any) -> list[str]:
    """
    The measures that these scores give.

    Args:
        scores (`list[RewardScore]`, `list[dict]` or `ModelOutput`): as in [`compute_uncertainty`].

    Returns:
        `list[str]`: in the order of `MEASURES`; of a scalar reward model none.
    """
    rows, names = _read_rows(scores), []  # scores of one list may come from several models: all have to give it
    for name in MEASURES:
        with suppress(ValueError):
            for row in rows:
                _check_given(row, name, "")
            names.append(name)
    return names


def _read_rows(scores: Any) -> list[Any]:
    # before the general mapping, which a model's output is too
    if isinstance(scores, ModelOutput) and "logits" in scores:
        return output_rows(scores, None)
    if isinstance(scores, Mapping):
        raise ValueError("`scores` must be a list of scores, got one score: pass [score].")
    if isinstance(scores, (int, float)):
        told = "of bare rewards, `preference_probability(reward_a, std_a, reward_b, std_b)` tells which is better"
        raise ValueError(f"`scores` must be a list of scores, got {scores}: {told}.")
    return list(scores)


def _check_given(row: Any, name: str, where: str):
    """Whether the model behind `row`, a score or an output, gives this measure."""
    if row.get("reward_std") is None and row.get("attribute_means") is None:
        raise ValueError(
            f"{where} has no uncertainty (no `reward_std`): it comes from a scalar reward model, which gives a reward "
            f"and nothing else. {name} needs a URM or an ensemble."
        )
    measure: Measure = MEASURES[name]
    if measure.needs_ensemble and row.get("reward_gap") is None:
        raise ValueError(f"{where} comes from a single URM; {name} compares members: score with a URMEnsemble.")
    known = row.get("epistemic_variance") is not None or row.get("reward_gap") is not None  # the latter: an ensemble
    if measure.needs_epistemic and not known:
        raise ValueError(
            f"{where} comes from a single URM without a posterior, which does not say what it does not know. {name} "
            "needs one (`urm posterior MODEL --data RATINGS --out DIR`), or a URMEnsemble."
        )
    if measure.needs_sigma and row.get("reward_std") is None:
        raise ValueError(
            f'{where} has no sigma: its model was trained by the squared error (`loss_type="deterministic"`), which '
            f'does not teach it. {name} needs a model trained by a likelihood, such as the default "mle".'
        )
    for which, field in (("attribute_gap", "attribute_gaps"), ("disagreement", "attribute_disagreement_stds")):
        if name == which and row.get(field) is None:
            raise ValueError(f"{where} has no `{field}`: score the conversations again.")
    if name == "reward_epistemic" and row.get("reward_epistemic_std") is None and row.get("member_rewards") is None:
        raise ValueError(f"{where} has no `reward_epistemic_std`: score the conversations again.")


def _compute_scaled(rows: list[Any], name: str, scales: Scales) -> np.ndarray:
    """A measure from each row's numbers by attribute, divided by scales."""
    if not rows:
        return np.zeros(0)
    names = list(rows[0]["attribute_means"])  # in the order of the head
    if isinstance(scales, Mapping):
        if set(scales) != set(names):
            raise ValueError(f"`scales` must name the attributes {names}, got {list(scales)}.")
        scales = [scales[attribute] for attribute in names]
    divisors = _check_scales(list(scales), len(names))

    def read_scaled(field: str) -> np.ndarray:  # (N, n)
        return np.stack([read_column(field, attribute) for attribute in names], axis=-1) / divisors

    def read_column(field: str, attribute: str) -> np.ndarray:
        return np.array([row[field][attribute] for row in rows])

    ensemble = rows[0].get("reward_gap") is not None
    if name == "attribute_gap":
        return read_scaled("attribute_gaps").max(-1)
    if name == "covariance_norm":
        if ensemble:
            raise ValueError(
                "covariance_norm of an ensemble with `scales` needs each member's stds, which scores do not hold: "
                "use attribute_variance."
            )
        # the covariance is diagonal: its Frobenius norm is the norm of the variances
        return np.linalg.norm(read_scaled("attribute_stds") ** 2, axis=-1)
    if name in ("epistemic", "disagreement"):
        return (read_scaled(f"attribute_{name}_stds") ** 2).sum(-1)
    # The stds of an ensemble are of the total variance, aleatoric + epistemic; only the latter is given by itself.
    total = (read_scaled("attribute_stds") ** 2).sum(-1)  # (N,)
    if not ensemble:  # the stds of a single URM are sigma alone
        return total + (read_scaled("attribute_epistemic_stds") ** 2).sum(-1) if name == "total" else total
    if name == "total":
        return total
    epistemic = (read_scaled("attribute_epistemic_stds") ** 2).sum(-1)
    return np.maximum(total - epistemic, 0)  # rounding may take a difference of equals below 0


def _check_scales(scales: list[float], n: int) -> np.ndarray:
    if len(scales) != n or not all(0 < scale < float("inf") for scale in scales):
        raise ValueError(f"`scales` must be {n} positive numbers, one for each attribute, got {scales}.")
    return np.array(scales, dtype=np.float64)


def preference_probability(reward_a: Any, std_a: Any, reward_b: Any, std_b: Any) -> Any:
    """
    P(a is better than b) = Phi((r_a - r_b) / sqrt(std_a^2 + std_b^2)), where both rewards are independent Gaussians.

    Without any variance it is 1, 0.5 or 0. Numbers, arrays or tensors that broadcast; returns what came in. Both
    answers must be to one prompt. Errors of members that two answers share do not cancel here: where there are such,
    the probability of an ensemble stays too close to 0.5.

    Args:
        reward_a (`float`, `np.ndarray` or `Tensor`): reward of a.
        std_a (`float`, `np.ndarray` or `Tensor`): its standard deviation, in the unit of the reward.
        reward_b (`float`, `np.ndarray` or `Tensor`): reward of b.
        std_b (`float`, `np.ndarray` or `Tensor`): its standard deviation, in the unit of the reward.

    Raises:
        ValueError: a negative standard deviation.
    """
    values = (reward_a, std_a, reward_b, std_b)
    like = next((value for value in values if isinstance(value, torch.Tensor)), None)
    # One formula for floats, arrays and tensors: a loss may go through it, which needs torch's own functions.
    library: Any = np if like is None else torch
    if like is None:
        reward_a, std_a, reward_b, std_b = map(np.asarray, values)
    else:
        reward_a, std_a, reward_b, std_b = (
            torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values
        )
    if (std_a < 0).any() or (std_b < 0).any():
        raise ValueError("`std_a` and `std_b` must not be negative.")
    # 0 / 0 of two sure and equal rewards is not left to NaN: gradients through `where` would be NaN as well
    certain = (std_a == 0) & (std_b == 0)
    std = library.hypot(library.where(certain, library.ones_like(std_a), std_a), std_b)  # 1 where it is not used
    compute_cdf: Any = ndtr if like is None else torch.special.ndtr
    probability = compute_cdf((reward_a - reward_b) / std)
    probability = library.where(certain, (library.sign(reward_a - reward_b) + 1) / 2, probability)
    return probability if torch.is_tensor(probability) or probability.ndim else float(probability)


def reward_interval(reward: Any, std: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """
    The interval [lower, upper] that holds a Gaussian reward with probability `confidence`: reward -+ z std.

    Numbers, arrays or tensors; returns what came in. It is as good as `std` is calibrated.

    Args:
        reward (`float`, `np.ndarray` or `Tensor`): mean of the reward.
        std (`float`, `np.ndarray` or `Tensor`): its standard deviation, in the unit of the reward.
        confidence (`float`, *optional*, defaults to `0.95`): in (0, 1).

    Raises:
        ValueError: `confidence` is out of range, or a standard deviation is negative.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence}.")
    if not isinstance(reward, torch.Tensor) and isinstance(reward, Sequence):
        reward, std = np.asarray(reward), np.asarray(std)
    if np.any(np.asarray(std.detach().cpu() if isinstance(std, torch.Tensor) else std) < 0):
        raise ValueError("`std` must not be negative.")
    half = float(ndtri((1 + confidence) / 2)) * std
    return reward - half, reward + half


def compute_preference_probability(scores_a: Sequence[Any], scores_b: Sequence[Any]) -> np.ndarray:
    """
    P(a is better than b) for N pairs of scores of answers to one prompt each: [`preference_probability`] of each pair.

    Args:
        scores_a (`list[RewardScore]` or `list[dict]`):
            The N scores of one side, of a model that gives a `reward_std`.
        scores_b (`list[RewardScore]` or `list[dict]`):
            The N scores of the other side, in the same order.

    Returns:
        `np.ndarray` of shape `(N,)`: between 0 and 1; above 0.5 where a has the higher reward.

    Raises:
        ValueError: lists of different length, or scores without `reward_std`.
    """
    rewards_a, rewards_b = _read_pairs(scores_a, scores_b, "reward")
    std_a, std_b = compute_uncertainty(scores_a, "reward_std"), compute_uncertainty(scores_b, "reward_std")
    return preference_probability(rewards_a, std_a, rewards_b, std_b)


compare = renamed("compare", compute_preference_probability)


def margin_gap(scores_a: Sequence[Any], scores_b: Sequence[Any]) -> np.ndarray:
    """
    Eq. 7 on margins: max_ij |(r_i,a - r_i,b) - (r_j,a - r_j,b)| over members, (N,), in the unit of the reward.

    How far members disagree on which answer is better; higher = less known. Offsets between members, which pairs leave
    free and which `reward_gap` counts, cancel.

    Args:
        scores_a (`list[RewardScore]` or `list[dict]`): the N scores of one side, of an ensemble.
        scores_b (`list[RewardScore]` or `list[dict]`): the N scores of the other side, in the same order.

    Raises:
        ValueError: lists of different length, or scores without `member_rewards`.
    """
    margins = np.subtract(*_read_pairs(scores_a, scores_b, "member_rewards"))  # (N, M)
    if not len(margins):
        return np.zeros(0)
    # the largest difference of all pairs of members is that of the highest and the lowest
    return np.ptp(margins.reshape(len(margins), -1), axis=1)


def _read_pairs(scores_a: Sequence[Any], scores_b: Sequence[Any], field: str) -> tuple[np.ndarray, np.ndarray]:
    rows_a, rows_b = _read_rows(scores_a), _read_rows(scores_b)
    if len(rows_a) != len(rows_b):
        raise ValueError(f"Pairs need two lists of one length, got {len(rows_a)} and {len(rows_b)} scores.")
    for number, row in [*enumerate(rows_a), *enumerate(rows_b)]:
        if row.get(field) is None:
            remedy = "; score with a URMEnsemble" if field == "member_rewards" else ""
            raise ValueError(f"Row {number} has no `{field}`{remedy}.")
    return np.array([row[field] for row in rows_a]), np.array([row[field] for row in rows_b])
