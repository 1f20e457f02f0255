"""
What is not known about a reward: measures of uncertainty, preference under uncertainty, intervals.

Shapes: N conversations, n attributes, M ensemble members. Every measure is (N,), and higher means less sure.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from transformers.utils import ModelOutput

from urm_hf.scores import output_rows

Scales = Mapping[str, float] | Sequence[float]


@dataclass(frozen=True)
class Measure:
    """
    A measure of uncertainty. All are zero or more.

    Args:
        description: what it is.
        unit: "reward", "ratings" or "squared ratings".
        higher: what a higher value means.
        needs_ensemble: whether only several members can give it.
        by_attribute: whether it is computed from attributes, so that `scales` apply to it.
    """

    description: str
    unit: str
    higher: str
    needs_ensemble: bool = False
    by_attribute: bool = True


MEASURES: dict[str, Measure] = {
    "attribute_variance": Measure(
        "sum over attributes of sigma^2 (section 5.2.3); of an ensemble: its mean over members",
        "squared ratings",
        "noisier ratings",
    ),
    "covariance_norm": Measure(
        "largest Frobenius norm of a member's covariance (Eq. 8); of a single URM: that of its own",
        "squared ratings",
        "noisier ratings",
    ),
    "aleatoric": Measure(
        "sum over attributes of the mean over members of sigma^2: the same number as attribute_variance",
        "squared ratings",
        "noisier ratings",
    ),
    "epistemic": Measure(
        "sum over attributes of the variance over members of mu (divisor M)", "squared ratings", "less known", True
    ),
    "total": Measure("aleatoric + epistemic", "squared ratings", "less sure, for either reason", True),
    "attribute_gap": Measure(
        "largest difference between two members' means of one attribute (Eq. 7), over all attributes",
        "ratings",
        "less known",
        True,
    ),
    "reward_std": Measure(
        "sqrt(sum w^2 sigma^2); of an ensemble: root of the total variance over members",
        "reward",
        "less sure",
        by_attribute=False,
    ),
    "reward_gap": Measure(
        "largest difference between two members' rewards (Eq. 7)", "reward", "less known", True, by_attribute=False
    ),
    "reward_epistemic": Measure(
        "standard deviation over members of their rewards (divisor M)", "reward", "less known", True, False
    ),
}

_FIELDS: dict[str, Callable[[Any], float]] = {
    "attribute_variance": lambda row: row["attribute_variance"],
    "covariance_norm": lambda row: row["covariance_norm"],
    "aleatoric": lambda row: row["attribute_variance"],
    "epistemic": lambda row: row["epistemic_variance"],
    "total": lambda row: row["attribute_variance"] + row["epistemic_variance"],
    "attribute_gap": lambda row: max(row["attribute_gaps"].values()),
    "reward_std": lambda row: row["reward_std"],
    "reward_gap": lambda row: row["reward_gap"],
    "reward_epistemic": lambda row: np.std(row["member_rewards"]),
}


def measure(scores: Any, name: str, scales: Scales | None = None) -> np.ndarray:
    """
    One measure of uncertainty for N conversations, float64 (N,). `MEASURES` describes them.

    Measures over attributes add their squares as they are: an attribute rated from 0 to 100 counts ten thousand times
    as much as one rated from 0 to 1. Where attributes have different scales, pass `scales`; the unit is then that of
    the scales (with `scales=model.config.label_stds`: standard deviations of the ratings).

    Args:
        scores: what `RewardScorer.score` returned, the rows of a file that `urm score` wrote, or a `URMOutput` or
            `URMEnsembleOutput`.
        name: a key of `MEASURES`.
        scales (*optional*): divides each attribute's means and stds: by name, or numbers in the attributes' order.

    Raises:
        ValueError: no such measure; a model does not give it; the numbers of a row are not finite.
    """
    if name not in MEASURES:
        raise ValueError(f"`name` must be one of {', '.join(MEASURES)}, got {name!r}.")
    if scales is not None and not MEASURES[name].by_attribute:
        raise ValueError(f"{name} is in the unit of the reward: `scales` of attributes do not apply to it.")
    rows = _as_rows(scores)
    for number, row in enumerate(rows):
        _check_given(row, name, f"Row {number}")
    if scales is None:
        values = np.array([_FIELDS[name](row) for row in rows], dtype=np.float64)
    else:
        values = _of_scaled_rows(rows, name, scales)
    unsound = np.flatnonzero(~np.isfinite(values))
    if len(unsound):
        raise ValueError(f"{name} is not finite in rows {unsound[:8].tolist()}: {values[unsound[:8]].tolist()}.")
    return values


def available(scores: Any) -> list[str]:
    """The measures that these scores give, in the order of `MEASURES`; of a scalar reward model: none."""
    rows, names = _as_rows(scores), []
    for name in MEASURES:
        with suppress(ValueError):
            for row in rows:
                _check_given(row, name, "")
            names.append(name)
    return names


def _as_rows(scores: Any) -> list[Any]:
    if isinstance(scores, ModelOutput) and "logits" in scores:
        return output_rows(scores, None)
    if isinstance(scores, Mapping):
        raise ValueError("`scores` must be a list of scores, got one score: pass [score].")
    return list(scores)


def _check_given(row: Any, name: str, where: str):
    """Whether the model behind `row`, a score or an output, gives this measure."""
    if row.get("reward_std") is None:
        raise ValueError(
            f"{where} has no uncertainty (no `reward_std`): it comes from a scalar reward model, which gives a reward "
            f"and nothing else. {name} needs a URM or an ensemble."
        )
    if MEASURES[name].needs_ensemble and row.get("reward_gap") is None:
        raise ValueError(f"{where} comes from a single URM; {name} compares members: score with a URMEnsemble.")
    if name == "attribute_gap" and row.get("attribute_gaps") is None:
        raise ValueError(f"{where} has no `attribute_gaps`: score the conversations again.")


def _of_scaled_rows(rows: list[Any], name: str, scales: Scales) -> np.ndarray:
    """A measure from each row's numbers by attribute, divided by scales."""
    if not rows:
        return np.zeros(0)
    names = list(rows[0]["attribute_stds"])
    if isinstance(scales, Mapping):
        if set(scales) != set(names):
            raise ValueError(f"`scales` must name the attributes {names}, got {list(scales)}.")
        scales = [scales[attribute] for attribute in names]
    divisors = _check_scales(list(scales), len(names))

    def scaled(field: str) -> np.ndarray:  # (N, n)
        return np.array([[row[field][attribute] for attribute in names] for row in rows]) / divisors

    ensemble = rows[0].get("reward_gap") is not None
    if name == "attribute_gap":
        return scaled("attribute_gaps").max(-1)
    if name == "covariance_norm":
        if ensemble:
            raise ValueError(
                "covariance_norm of an ensemble with `scales` needs each member's stds, which scores do not hold: "
                "use attribute_variance."
            )
        return np.linalg.norm(scaled("attribute_stds") ** 2, axis=-1)
    total = (scaled("attribute_stds") ** 2).sum(-1)
    if name == "total" or not ensemble:
        return total
    epistemic = (scaled("attribute_epistemic_stds") ** 2).sum(-1)
    return epistemic if name == "epistemic" else np.maximum(total - epistemic, 0)


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

    Raises:
        ValueError: a negative standard deviation.
    """
    values = (reward_a, std_a, reward_b, std_b)
    like = next((value for value in values if isinstance(value, torch.Tensor)), None)
    library: Any = np if like is None else torch
    if like is None:
        reward_a, std_a, reward_b, std_b = map(np.asarray, values)
    else:
        reward_a, std_a, reward_b, std_b = (
            torch.as_tensor(value, dtype=like.dtype, device=like.device) for value in values
        )
    if (std_a < 0).any() or (std_b < 0).any():
        raise ValueError("`std_a` and `std_b` must not be negative.")
    certain = (std_a == 0) & (std_b == 0)
    std = library.hypot(library.where(certain, library.ones_like(std_a), std_a), std_b)  # 1 where it is not used
    probability = (ndtr if like is None else torch.special.ndtr)((reward_a - reward_b) / std)
    probability = library.where(certain, (library.sign(reward_a - reward_b) + 1) / 2, probability)
    return probability if torch.is_tensor(probability) or probability.ndim else float(probability)


def reward_interval(reward: Any, std: Any, confidence: float = 0.95) -> tuple[Any, Any]:
    """
    The interval [lower, upper] that holds a Gaussian reward with probability `confidence`: reward -+ z std.

    Numbers, arrays or tensors; returns what came in. It is as good as `std` is calibrated.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must lie between 0 and 1, got {confidence}.")
    if not isinstance(reward, torch.Tensor) and isinstance(reward, Sequence):
        reward, std = np.asarray(reward), np.asarray(std)
    if np.any(np.asarray(std.detach().cpu() if isinstance(std, torch.Tensor) else std) < 0):
        raise ValueError("`std` must not be negative.")
    half = float(ndtri((1 + confidence) / 2)) * std
    return reward - half, reward + half


def compare(scores_a: Sequence[Any], scores_b: Sequence[Any]) -> np.ndarray:
    """
    P(a is better than b) for N pairs of scores of answers to one prompt each, (N,).

    Raises:
        ValueError: lists of different length, or scores without `reward_std`.
    """
    rewards_a, rewards_b = _paired(scores_a, scores_b, "reward")
    return preference_probability(
        rewards_a, measure(scores_a, "reward_std"), rewards_b, measure(scores_b, "reward_std")
    )


def margin_gap(scores_a: Sequence[Any], scores_b: Sequence[Any]) -> np.ndarray:
    """
    Eq. 7 on margins: max_ij |(r_i,a - r_i,b) - (r_j,a - r_j,b)| over members, (N,), in the unit of the reward.

    How far members disagree on which answer is better; higher = less known. Offsets between members, which pairs leave
    free and which `reward_gap` counts, cancel.
    """
    margins = np.subtract(*_paired(scores_a, scores_b, "member_rewards"))
    return np.ptp(margins.reshape(len(margins), -1), axis=1) if len(margins) else np.zeros(0)


def _paired(scores_a: Sequence[Any], scores_b: Sequence[Any], field: str) -> tuple[np.ndarray, np.ndarray]:
    if len(scores_a) != len(scores_b):
        raise ValueError(f"Pairs need two lists of one length, got {len(scores_a)} and {len(scores_b)} scores.")
    for side in (scores_a, scores_b):
        for number, row in enumerate(side):
            if row.get(field) is None:
                raise ValueError(f"Row {number} has no `{field}`" + "; score with a URMEnsemble." * ("_" in field))
    return np.array([row[field] for row in scores_a]), np.array([row[field] for row in scores_b])
