"""Whether a conversation looks unfamiliar: its uncertainty beside that of conversations like the training data."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from urm_hf.scores import RewardScore
from urm_hf.scoring.scorer import RewardScorer
from urm_hf.uncertainty.measures import available, compute_uncertainty

UNFAMILIAR = 0.95  # of the familiar conversations stay below what is called unfamiliar
MOST = 256  # familiar conversations: quantiles of more would not move, and each is scored before the page opens


@dataclass(frozen=True)
class FamiliarSet:
    """
    A measure of uncertainty on familiar conversations.

    Args:
        measure (`str`): a key of `urm_hf.uncertainty.MEASURES`.
        values (`np.ndarray` of shape `(N,)`): it on each of them; higher = less sure.
    """

    measure: str
    values: np.ndarray

    def compute_share_below(self, scores: Sequence[RewardScore]) -> np.ndarray:
        """The share of familiar conversations with a lower value than each of B scores, ties half: `(B,)`, 0 to 1."""
        given = compute_uncertainty(scores, self.measure)[:, None]
        return ((self.values < given).mean(1) + (self.values <= given).mean(1)) / 2


def choose_measure(scores: Sequence[RewardScore]) -> str | None:
    """
    What tells the unfamiliar best: the doubt about ratings, of members or of a posterior; of a single model without
    one the predicted spread, which is about raters and may stay small on unfamiliar text. A scalar model has neither:
    None.
    """
    given = available(scores)
    return next((name for name in ("epistemic", "attribute_gap", "attribute_variance") if name in given), None)


def build_familiar_set(scorer: RewardScorer, conversations: Iterable[Any]) -> FamiliarSet:
    """
    Scores familiar conversations.

    Args:
        scorer ([`RewardScorer`]): the model of the page.
        conversations (`Iterable`): like the training data, but not of it: what was trained on looks too familiar.

    Raises:
        ValueError: fewer than 20, of which no share of 5 % can be told; or the model gives no uncertainty.
    """
    rows = list(conversations)[:MOST]
    if len(rows) < 20:
        raise ValueError(f"at least 20 familiar conversations are needed, got {len(rows)}.")
    scores = scorer.score(rows)
    measure = choose_measure(scores)
    if measure is None:
        raise ValueError("a scalar reward model gives no uncertainty, so that nothing can look unfamiliar to it.")
    return FamiliarSet(measure, compute_uncertainty(scores, measure))
