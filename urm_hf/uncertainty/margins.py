"""
What one model does not know of the difference between two answers: the joint posterior of a pair.

Both rewards are read from one posterior, so that what two answers share cancels. With rewards r = sum_k w_k mu_k and
mu_k = intercept_k + m_k'(z - z_k), where z_k is the mean of the rows that rate attribute k,

    Var(r_a - r_b) = sum_k v_k' S_k v_k + (w_ak - w_bk)^2 / (beta_k N_k),    v_k = w_ak (z_a - z_k) - w_bk (z_b - z_k).

Of what lies outside of the basis only lengths are kept: there the two are taken for orthogonal. Gates are taken as
they are. Sources as of `urm_hf.uncertainty.posterior`.

Shapes: N pairs, n attributes, r directions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from urm_hf.modeling.head_urm import URMHead
from urm_hf.uncertainty.measures import compute_uncertainty, preference_probability
from urm_hf.uncertainty.posterior import quadratic_form

TOLERANCE = 0.01  # of variances, which scores have in float32, of features that are rounded


def margin_epistemic_std(scores_a: Sequence[Any], scores_b: Sequence[Any], head: URMHead) -> np.ndarray:
    """
    Standard deviation of r_a - r_b that rated rows leave open, (N,), in the unit of the reward; higher = less known.

    ```python
    a, b = (scorer.score(side, return_posterior_features=True) for side in (chosen, rejected))
    margin_epistemic_std(a, b, scorer.model.score)
    ```

    Args:
        scores_a (`list[RewardScore]` or `list[dict]`): the N scores of one side, with `posterior_features`.
        scores_b (`list[RewardScore]` or `list[dict]`): the N scores of the other side, in the same order.
        head ([`URMHead`]): `model.score` of the model that gave them.

    Raises:
        ValueError: lists of different length, scores without `posterior_features`, or of another posterior. That both
            sides were scored with one gate cannot be told from them.
    """
    if len(scores_a) != len(scores_b):
        raise ValueError(f"Pairs need two lists of one length, got {len(scores_a)} and {len(scores_b)} scores.")
    rank = head.config.posterior_rank
    if rank is None:
        raise ValueError("`head` has no posterior: pass `model.score` of the model that gave the scores.")
    if not len(scores_a):
        return np.zeros(0)
    names = head.config.attributes
    (z_a, w_a), (z_b, w_b) = (_read_sides(scores, rank, names) for scores in (scores_a, scores_b))
    offsets, variances, rest, intercept = (
        getattr(head, f"posterior_{name}").double().cpu().numpy()
        for name in ("offsets", "variances", "rest", "intercept")
    )
    for side, z in ((scores_a, z_a), (scores_b, z_b)):
        _check_posterior(side, z, names, offsets, variances, rest, intercept)
    total = np.zeros(len(z_a))
    for k in range(len(names)):  # (N, r) at a time, not (N, n, r)
        apart = w_a[:, k, None] * (z_a[:, :-1] - offsets[k]) - w_b[:, k, None] * (z_b[:, :-1] - offsets[k])
        outside = (w_a[:, k] * z_a[:, -1]) ** 2 + (w_b[:, k] * z_b[:, -1]) ** 2
        total += quadratic_form(apart, variances[k]) + outside * rest[k] + (w_a[:, k] - w_b[:, k]) ** 2 * intercept[k]
    return np.sqrt(total)


def compute_joint_probability(scores_a: Sequence[Any], scores_b: Sequence[Any], head: URMHead) -> np.ndarray:
    """
    P(a is better than b) for N pairs, by the noise of ratings and by what the model does not know of the difference.

    Args:
        scores_a, scores_b, head: as of [`margin_epistemic_std`].

    Returns:
        `np.ndarray` of shape `(N,)`: Phi((r_a - r_b) / sqrt(std_a^2 + std_b^2 + Var(r_a - r_b))), the stds being those
        of the ratings' noise.
    """
    unknown = margin_epistemic_std(scores_a, scores_b, head)
    std_a, std_b = compute_uncertainty(scores_a, "reward_std"), compute_uncertainty(scores_b, "reward_std")
    rewards_a, rewards_b = (np.array([row["reward"] for row in rows]) for rows in (scores_a, scores_b))
    return preference_probability(rewards_a, np.hypot(std_a, unknown), rewards_b, std_b)


def _check_posterior(
    scores: Sequence[Any],
    features: np.ndarray,
    names: Sequence[str],
    offsets: np.ndarray,
    variances: np.ndarray,
    rest: np.ndarray,
    intercept: np.ndarray,
):
    """Whether a posterior says of features (N, r + 1) what the scores say that it said."""
    rows = [number for number, row in enumerate(scores) if row.get("attribute_epistemic_stds") is not None]
    if not rows:
        return
    told = np.array([[scores[row]["attribute_epistemic_stds"][name] for name in names] for row in rows]) ** 2
    along, outside = features[rows, :-1], features[rows, -1] ** 2
    for k in range(len(names)):
        found = quadratic_form(along - offsets[k], variances[k]) + outside * rest[k] + intercept[k]
        # what is infinite in half precision cannot be compared, and is not found wrong here
        wrong = np.abs(found - told[:, k]) > TOLERANCE * np.maximum(found, told[:, k])
        if wrong.any():
            number = rows[int(np.argmax(wrong))]
            ours, theirs = found[wrong][0] ** 0.5, told[wrong, k][0] ** 0.5
            raise ValueError(
                f"Row {number} is of another posterior than `head` has: of its `posterior_features` this one says "
                f"that {names[k]} is unknown by {ours:.3g}, and the score says {theirs:.3g}. Score both sides by one "
                "model, and pass its `model.score`."
            )


def _read_sides(scores: Sequence[Any], rank: int, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Features (N, r + 1) and gating weights (N, n) of one side."""
    for number, row in enumerate(scores):
        features = row.get("posterior_features")
        if features is None:
            raise ValueError(
                f"Row {number} has no `posterior_features`: score with `return_posterior_features=True`, by a single "
                "URM with a posterior."
            )
        if len(features) != rank + 1 or set(row["gating_weights"]) != set(names):
            raise ValueError(f"Row {number} is of another model than `head`: its `posterior_features` do not fit.")
    features = np.array([row["posterior_features"] for row in scores], dtype=np.float64)
    weights = np.array([[row["gating_weights"][name] for name in names] for row in scores], dtype=np.float64)
    return features, weights
