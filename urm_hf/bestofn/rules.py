"""By what the best of n answers is found: the reward, or something more careful that looks at its uncertainty."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from urm_hf.scores import RewardScore
from urm_hf.uncertainty.filtering import filter_values
from urm_hf.uncertainty.measures import MEASURES, compute_uncertainty

RULES = ("reward", "min", "mean_minus_k_std", "filtered")
UNSCORED, UNKNOWN, ELIGIBLE = 0, 1, 2  # a candidate of a higher tier always comes before one of a lower


@dataclass(frozen=True)
class Rule:
    """
    How candidates for one prompt are ranked.

    Args:
        name (`str`, *optional*, defaults to `"reward"`):
            "reward": by the model's reward (of an ensemble: the members' as it aggregates them, by default their
            mean).
            "min": by the least of the members' rewards.
            "mean_minus_k_std": by the (mean) reward less k times `measure` (Coste et al., 2024, arXiv:2310.02743, take
            off the variance over members).
            "filtered": by the reward, among candidates whose `measure` is at most `threshold`, or that are among the
            share `keep` with the lowest of all candidates that are ranked at once. Where none is left, all are
            eligible again.
        k (`float`, *optional*, defaults to `1.0`):
            Of "mean_minus_k_std"; not negative.
        measure (`str`, *optional*):
            One of `urm_hf.uncertainty.MEASURES`. By default: for "mean_minus_k_std" `reward_epistemic` of an ensemble,
            the standard deviation over its members, and `reward_std` of a single URM; for "filtered" `reward_gap` and
            `attribute_variance`, as in the paper's Fig. 6c.
        threshold (`float`, *optional*):
            Of "filtered": the largest uncertainty that is kept. Either this or `keep`.
        keep (`float`, *optional*):
            Of "filtered": the share to keep, in (0, 1]. By default 0.8.

    Raises:
        ValueError: no such rule or measure, or a setting is out of range or of another rule.
    """

    name: str = "reward"
    k: float = 1.0
    measure: str | None = None
    threshold: float | None = None
    keep: float | None = None

    def __post_init__(self):
        if self.name not in RULES:
            raise ValueError(f"a selection rule must be one of {', '.join(RULES)}, got {self.name!r}.")
        if self.measure is not None and self.measure not in MEASURES:
            raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {self.measure!r}.")
        if not 0 <= self.k < math.inf:
            raise ValueError(f"`k` must be finite and not negative, got {self.k}.")
        if self.name not in ("mean_minus_k_std", "filtered") and self.measure is not None:
            raise ValueError(f"`measure` is of mean_minus_k_std and filtered; {self.name} looks at none.")
        if self.name != "filtered" and (self.threshold, self.keep) != (None, None):
            raise ValueError(f'`threshold` and `keep` are of the rule "filtered", not of {self.name!r}.')
        if self.threshold is not None and self.keep is not None:
            raise ValueError(f"Give either `threshold` or `keep`, got {self.threshold} and {self.keep}.")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ValueError(f"`keep` is a share and must lie in (0, 1], got {self.keep}.")
        if self.threshold is not None and not self.threshold >= 0:
            raise ValueError(f"`threshold` must not be negative, got {self.threshold}.")

    def of(self, kind: str) -> "Rule":
        """
        This rule with its defaults, for a model of a kind.

        Args:
            kind (`str`): "ensemble", "urm" or "scalar".

        Raises:
            ValueError: such a model cannot be asked this.
        """
        if self.name == "reward":
            return self
        if kind == "scalar":
            raise ValueError(f'"{self.name}" needs a URM or an ensemble; the model gives a reward and nothing else.')
        if self.name == "min" and kind != "ensemble":
            raise ValueError('"min" compares members, so it needs an ensemble; the model is a single URM.')
        if self.name == "min":
            return self
        # A filter asks what the model does not know, and the paper's Fig. 6c takes these two; a penalty has to be in
        # the unit of the reward that it is taken off.
        filtered, many = self.name == "filtered", kind == "ensemble"
        if filtered:
            usual = "reward_gap" if many else "attribute_variance"
        else:
            usual = "reward_epistemic" if many else "reward_std"
        name = self.measure or usual
        if MEASURES[name].needs_ensemble and not many:
            raise ValueError(f"{name} compares members, so it needs an ensemble; the model is a single URM.")
        if not filtered and MEASURES[name].unit != "reward":
            raise ValueError(f"mean_minus_k_std needs a measure in the unit of the reward; {name} is in another.")
        keep = 0.8 if filtered and self.keep is None and self.threshold is None else self.keep
        return replace(self, measure=name, keep=keep)

    @property
    def label(self) -> str:
        """Short, for tables."""
        return {
            "reward": "reward",
            "min": "least member",
            "mean_minus_k_std": f"reward - {self.k:g} {self.measure or 'std'}",
            "filtered": f"filtered by {self.measure or 'uncertainty'}",
        }[self.name]


@dataclass(frozen=True)
class Ranking:
    """
    N candidates, ranked.

    Args:
        keys (`np.ndarray` of shape `(N,)`, int): higher is better, equal ones tie; they compare candidates for one
            prompt.
        eligible (`np.ndarray` of shape `(N,)`, bool): scored, and not filtered out.
        rule (`Rule`): by which, with its defaults.
        threshold (`float`, *optional*): of its measure; None without a filter.
    """

    keys: np.ndarray
    eligible: np.ndarray
    rule: Rule
    threshold: float | None = None


def rank(rule: Rule, scores: Sequence[RewardScore | None]) -> Ranking:
    """
    Candidates ranked by a rule.

    Args:
        rule (`Rule`): by which.
        scores (`list[RewardScore | None]`): of N candidates; None is one that has no score, as an empty answer: it
            comes after all others.

    Returns:
        [`Ranking`] of the N candidates.

    Raises:
        ValueError: the model that gave the scores cannot be asked this.
    """
    scored = np.array([score is not None for score in scores], dtype=bool)
    given = [score for score in scores if score is not None]
    tiers, values = np.full(len(scores), UNSCORED), np.zeros(len(scores))
    threshold = None
    if given:
        rule = rule.of(read_kind(given))
        tiers[scored], values[scored] = ELIGIBLE, _compute_values(rule, given)
        if rule.name == "filtered":
            kept = filter_values(_compute_measure(rule, given), threshold=rule.threshold, keep=rule.keep)
            tiers[scored], threshold = np.where(kept.kept, ELIGIBLE, UNKNOWN), kept.threshold
    # One integer for (tier, value), by the order of the distinct pairs: ties stay ties, and no large value of a lower
    # tier comes before a small one of a higher, as it might in a sum of both.
    keys = np.unique(np.stack([tiers, values], axis=1), axis=0, return_inverse=True)[1].reshape(-1)
    return Ranking(keys, tiers == ELIGIBLE, rule, threshold)


def read_kind(scores: Sequence[RewardScore]) -> str:
    """Of the model that gave them: "ensemble", "urm" or "scalar"."""
    if scores[0].get("reward_std") is None:
        return "scalar"
    return "urm" if scores[0].get("member_rewards") is None else "ensemble"


def rules_for(kind: str, k: float = 1.0, **filtering) -> list[Rule]:
    """
    All rules that a model of that kind can be asked, most usual first.

    Args:
        kind (`str`): "ensemble", "urm" or "scalar".
        k (`float`, *optional*, defaults to `1.0`): see [`Rule`].
        filtering: `measure`, `threshold` and `keep` of the filtered one.
    """
    rules = [Rule("reward")]
    if kind == "ensemble":
        rules += [Rule("min"), Rule("mean_minus_k_std", k, "reward_epistemic")]
    if kind != "scalar":
        rules += [Rule("mean_minus_k_std", k, "reward_std"), Rule("filtered", **filtering)]
    return [rule.of(kind) for rule in rules]


def _compute_values(rule: Rule, scores: Sequence[RewardScore]) -> np.ndarray:
    if rule.name in ("reward", "filtered"):
        return np.array([score["reward"] for score in scores])
    if rule.name == "min":
        return np.array([min(score["member_rewards"]) for score in scores])
    members = scores[0].get("member_rewards") is not None  # an ensemble's reward need not be their mean
    means = [np.mean(score["member_rewards"]) if members else score["reward"] for score in scores]
    return np.array(means) - rule.k * _compute_measure(rule, scores)


def _compute_measure(rule: Rule, scores: Sequence[RewardScore]) -> np.ndarray:
    try:
        return compute_uncertainty(scores, str(rule.measure))
    except KeyError as error:  # of a file of scores that somebody else wrote
        raise ValueError(f"the scores have no {error}, which {rule.measure} is read from.") from error
