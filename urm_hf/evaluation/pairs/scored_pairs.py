"""Pairs of a better and a worse answer with one model's scores."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from urm_hf.evaluation.benchmarks.benchmark import PreferenceSet


@dataclass(frozen=True)
class ScoredPairs:
    """
    P pairs.

    Args:
        chosen, rejected: (P) what `RewardScorer.score` returned for the better and for the worse answer.
        prompts: (P) keys; pairs of one prompt are resampled together.

    Raises:
        ValueError: lists of different length, no pair at all, or a reward that is missing or not finite.
    """

    chosen: Sequence[Any]
    rejected: Sequence[Any]
    prompts: Sequence[str]

    def __post_init__(self):
        counts = {"chosen": len(self.chosen), "rejected": len(self.rejected), "prompts": len(self.prompts)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{count} {name}" for name, count in counts.items())
            raise ValueError(f"pairs need as many chosen as rejected scores and prompts, got {told}.")
        if not len(self.prompts):
            raise ValueError("there is no pair to evaluate.")
        for side in ("chosen", "rejected"):
            for number, score in enumerate(getattr(self, side)):
                if score["reward"] is None or not np.isfinite(score["reward"]):
                    raise ValueError(
                        f"`{side}`[{number}] has the reward {score['reward']}; it must be a finite number."
                    )

    @cached_property
    def margins(self) -> np.ndarray:
        """(P) reward of the chosen less that of the rejected answer."""
        return np.array(
            [a["reward"] - b["reward"] for a, b in zip(self.chosen, self.rejected, strict=True)], dtype=float
        )

    @cached_property
    def right(self) -> np.ndarray:
        """(P) whether the chosen answer has the higher reward; a tie is wrong."""
        return self.margins > 0

    @property
    def has_stds(self) -> bool:
        """Whether every score has a standard deviation."""
        return all(score.get("reward_std") is not None for side in (self.chosen, self.rejected) for score in side)


def scored_pairs(preferences: PreferenceSet, scores: Sequence[Any]) -> ScoredPairs:
    """
    Every chosen with every rejected answer of an item.

    Args:
        scores: (N) of `preferences.conversations`.
    """
    if len(scores) != len(preferences.conversations):
        raise ValueError(
            f"{preferences.name} has {len(preferences.conversations)} conversations, got {len(scores)} scores."
        )
    items, chosen, rejected = preferences.pairs
    return ScoredPairs(
        [scores[i] for i in chosen],
        [scores[i] for i in rejected],
        [preferences.items[number].prompt for number in items],
    )
