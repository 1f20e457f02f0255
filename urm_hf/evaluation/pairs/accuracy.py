"""
How often a model prefers the better answer, as each benchmark counts it.

A tie is wrong: only a strictly higher reward wins. Where the official code decides otherwise (RewardBench 2: 1/k of a
point if k answers share the highest reward) accuracies follow it. The share of ties is reported beside.
"""

import numpy as np
from numpy.typing import ArrayLike

from urm_hf.evaluation.benchmarks.benchmark import Decisions, PreferenceSet
from urm_hf.evaluation.benchmarks.group_means import compute_shares, mean_draws, measured_means
from urm_hf.evaluation.comparison import JudgedModel
from urm_hf.evaluation.measured import Measured


def accuracy_of(preferences: PreferenceSet, rewards: ArrayLike, samples: int = 1000, seed: int = 0) -> list[Measured]:
    """
    "accuracy" and "tied", overall and of each group, with 95 % intervals over prompts drawn within their groups.

    Which groups there are, and what the overall accuracy is a mean of, the benchmark says. "tied" has no interval: the
    share of decisions in this data that were ties.

    Args:
        rewards: (N) of `preferences.conversations`.

    Raises:
        ValueError: another number of rewards, or one that is not a number.
    """
    benchmark, rewards = preferences.benchmark, _check_rewards(preferences, rewards)
    counted, means = benchmark.outcomes(preferences, rewards), benchmark.group_means(preferences)
    tied, tied_means = benchmark.ties(preferences, rewards)
    accuracies = measured_means("accuracy", counted, means, samples, seed)
    return accuracies + measured_means("tied", tied, tied_means)


def random_accuracy(preferences: PreferenceSet) -> list[Measured]:
    """
    The accuracies that random rewards are expected to have, overall and of each group.

    In closed form, but for RewardBench 2's score of Ties, a part of which depends on how rewards are distributed: it
    is simulated with normal ones (`rewardbench2.random_outcomes`).
    """
    benchmark = preferences.benchmark
    return measured_means("accuracy", benchmark.random_outcomes(preferences), benchmark.group_means(preferences))


def decide(preferences: PreferenceSet, rewards: ArrayLike) -> Decisions:
    """
    K decisions, right or wrong, and the prompt of each, as the benchmark takes them: of items, or of pairs.

    Args:
        rewards (`ArrayLike`): (N) of `preferences.conversations`.
    """
    return preferences.benchmark.decisions(preferences, _check_rewards(preferences, rewards))


def judge(preferences: PreferenceSet, rewards: ArrayLike, samples: int = 1000, seed: int = 0) -> JudgedModel:
    """
    What two models are compared by: the decisions that count in the overall accuracy, and what each adds to it.

    Args:
        rewards (`ArrayLike`): (N) of `preferences.conversations`.
        samples (`int`, *optional*, defaults to 1000): of prompts, for the interval of a difference.
        seed (`int`, *optional*, defaults to 0): of these samples.
    """
    benchmark, rewards = preferences.benchmark, _check_rewards(preferences, rewards)
    outcomes, decided = benchmark.outcomes(preferences, rewards), benchmark.decisions(preferences, rewards)
    means = benchmark.group_means(preferences)
    shares = compute_shares(means[0])
    n = len(decided.right)
    added = np.bincount(outcomes.rows, outcomes.values * shares, minlength=n)
    weights = np.bincount(outcomes.rows, shares, minlength=n)
    counted = np.flatnonzero(weights)  # a prior set beside sections has no part in the overall accuracy
    draws = mean_draws(outcomes, means, samples, seed)[:, 0]
    return JudgedModel(decided.right[counted], added[counted], [decided.prompts[row] for row in counted], draws)


def _check_rewards(preferences: PreferenceSet, rewards: ArrayLike) -> np.ndarray:
    rewards = np.asarray(rewards, dtype=np.float64)
    count = len(preferences.conversations)
    if rewards.shape != (count,):
        raise ValueError(f"`rewards` must have shape ({count},), one for each conversation, got {rewards.shape}.")
    if not np.isfinite(rewards).all():
        first = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise ValueError(f"the reward of {preferences.origins[first]} is {rewards[first]}; it must be finite.")
    return rewards
