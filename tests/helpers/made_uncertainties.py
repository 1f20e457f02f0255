"""Scores with a given uncertainty."""

from urm_hf import RewardScore


def scores_with(stds) -> list[RewardScore]:
    return [RewardScore(reward=0.0, reward_std=float(std)) for std in stds]
