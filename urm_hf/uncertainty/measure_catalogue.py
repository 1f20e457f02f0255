"""The measures of uncertainty by name: what each is, its unit, what it takes of a model, and where it stands."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Measure:
    """
    A measure of uncertainty. All are zero or more.

    Args:
        description (`str`): what it is.
        unit (`str`): "reward", "ratings" or "squared ratings".
        higher (`str`): what a higher value means.
        needs_ensemble (`bool`, *optional*, defaults to `False`): whether only several members can give it.
        by_attribute (`bool`, *optional*, defaults to `True`): whether it is computed from attributes, so that
            `scales` apply to it.
        needs_sigma (`bool`, *optional*, defaults to `False`): whether it is read from sigma, which models trained by
            the squared error do not have.
        needs_epistemic (`bool`, *optional*, defaults to `False`): whether it takes several members or a posterior.
    """

    description: str
    unit: str
    higher: str
    needs_ensemble: bool = False
    by_attribute: bool = True
    needs_sigma: bool = False
    needs_epistemic: bool = False


MEASURES: dict[str, Measure] = {
    "attribute_variance": Measure(
        "sum over attributes of sigma^2 (section 5.2.3); of an ensemble: its mean over members",
        "squared ratings",
        "noisier ratings",
        needs_sigma=True,
    ),
    "covariance_norm": Measure(
        "largest Frobenius norm of a member's covariance (Eq. 8); of a single URM: that of its own",
        "squared ratings",
        "noisier ratings",
        needs_sigma=True,
    ),
    "aleatoric": Measure(
        "sum over attributes of the mean over members of sigma^2: the same number as attribute_variance",
        "squared ratings",
        "noisier ratings",
        needs_sigma=True,
    ),
    "epistemic": Measure(
        "sum over attributes of the variance of mu that is not known: of a single URM by its posterior, of an "
        "ensemble over its members (divisor M), and by their posteriors if all have one",
        "squared ratings",
        "less known",
        needs_epistemic=True,
    ),
    "disagreement": Measure(
        "sum over attributes of the variance of mu over members (divisor M), whatever posteriors say",
        "squared ratings",
        "less known",
        needs_ensemble=True,
    ),
    "total": Measure(
        "aleatoric + epistemic",
        "squared ratings",
        "less sure, for either reason",
        needs_epistemic=True,
        needs_sigma=True,
    ),
    "attribute_gap": Measure(
        "largest difference between two members' means of one attribute (Eq. 7), over all attributes",
        "ratings",
        "less known",
        needs_ensemble=True,
    ),
    "reward_std": Measure(
        "sqrt(sum w^2 sigma^2); of an ensemble: root of the total variance over members",
        "reward",
        "less sure",
        by_attribute=False,
        needs_sigma=True,
    ),
    "reward_gap": Measure(
        "largest difference between two members' rewards (Eq. 7)",
        "reward",
        "less known",
        needs_ensemble=True,
        by_attribute=False,
    ),
    "reward_epistemic": Measure(
        "standard deviation of the reward that is not known: of a single URM by its posterior, of an ensemble over "
        "its members (divisor M), and by their posteriors if all have one",
        "reward",
        "less known",
        needs_epistemic=True,
        by_attribute=False,
    ),
}

# how each measure is read from a score, which is of one conversation
FIELDS: dict[str, Callable[[Any], float]] = {
    "attribute_variance": lambda row: row["attribute_variance"],
    "covariance_norm": lambda row: row["covariance_norm"],
    "aleatoric": lambda row: row["attribute_variance"],
    "epistemic": lambda row: row["epistemic_variance"],
    "disagreement": lambda row: sum(std**2 for std in row["attribute_disagreement_stds"].values()),
    "total": lambda row: row["attribute_variance"] + row["epistemic_variance"],
    "attribute_gap": lambda row: max(row["attribute_gaps"].values()),
    "reward_std": lambda row: row["reward_std"],
    "reward_gap": lambda row: row["reward_gap"],
    "reward_epistemic": lambda row: (
        # files that were scored before it was given hold members' rewards alone
        np.std(row["member_rewards"]) if row.get("reward_epistemic_std") is None else row["reward_epistemic_std"]
    ),
}
