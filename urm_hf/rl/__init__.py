"""Rewards for TRL's trainers, and preference pairs for DPO."""

from urm_hf.rl.preference_pairs import PairReport, build_preference_pairs
from urm_hf.rl.rewards import (
    AttributeRewards,
    LowerConfidenceBoundReward,
    UncertaintyFilteredReward,
    UncertaintyPenalizedReward,
)

__all__ = [
    "AttributeRewards",
    "LowerConfidenceBoundReward",
    "PairReport",
    "UncertaintyFilteredReward",
    "UncertaintyPenalizedReward",
    "build_preference_pairs",
]
