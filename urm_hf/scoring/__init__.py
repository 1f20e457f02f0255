"""Scoring: conversations in, rewards with their uncertainty out."""

from urm_hf.scores import RewardScore, output_rows
from urm_hf.scoring.scorer import RewardScorer
from urm_hf.scoring.standardize import standardize_rewards

__all__ = ["RewardScore", "RewardScorer", "output_rows", "standardize_rewards"]
