"""The rewards of `urm_hf.rl` by their public name."""

from urm_hf.rl.rewards import (
    AttributeReward,
    AttributeRewards,
    CompletionScorer,
    LowerConfidenceBoundReward,
    ScoredReward,
    Scorer,
    UncertaintyFilteredReward,
    UncertaintyPenalizedReward,
)

__all__ = [
    "AttributeReward",
    "AttributeRewards",
    "CompletionScorer",
    "LowerConfidenceBoundReward",
    "ScoredReward",
    "Scorer",
    "UncertaintyFilteredReward",
    "UncertaintyPenalizedReward",
]
