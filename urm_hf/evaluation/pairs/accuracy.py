"""
How often a model prefers the better answer, as each benchmark counts it.

A tie is wrong: only a strictly higher reward wins. Where the official code decides otherwise (RewardBench 2: 1/k of a
point if k answers share the highest reward) accuracies follow it. The share of ties is reported beside.
"""

import numpy as np
from numpy.typing import ArrayLike

from urm_hf.evaluation.benchmarks import rewardbench, rewardbench2, rmbench
from urm_hf.evaluation.benchmarks.group_means import GroupMean, Outcomes, mean_draws, measured_means, shares_of
from urm_hf.evaluation.comparison import Judged
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.preferences import PreferenceSet


def accuracy_of(preferences: PreferenceSet, rewards: ArrayLike, samples: int = 1000, seed: int = 0) -> list[Measured]:
    """
    "accuracy" and "tied", overall and of each group, with 95 % intervals over prompts drawn within their groups.

    | kind | overall | groups |
    |---|---|---|
    | pairs | all pairs | subset |
    | rewardbench | mean of the sections | section, subset, prior set |
    | rewardbench2 | mean of the subsets | subset |
    | rmbench | mean of the domains | domain, difficulty, subset (parts of safety) |

    "tied" has no interval: the share of decisions in this data that were ties.

    Args:
        rewards: (N) of `preferences.conversations`.

    Raises:
        ValueError: another number of rewards, or one that is not a number.
    """
    rewards = _checked(preferences, rewards)
    accuracies = measured_means("accuracy", _outcomes(preferences, rewards), _group_means(preferences), samples, seed)
    return accuracies + measured_means("tied", *_ties(preferences, rewards))


def random_accuracy(preferences: PreferenceSet) -> list[Measured]:
    """
    The accuracies that random rewards are expected to have, overall and of each group.

    In closed form, but for RewardBench 2's score of Ties, a part of which depends on how rewards are distributed: it
    is simulated with normal ones (`rewardbench2.random_outcomes`).
    """
    if preferences.kind == "rewardbench2":
        outcomes = rewardbench2.random_outcomes(preferences)
    else:  # of two answers
        outcomes = _of_pairs(preferences, np.full(len(preferences.pairs[0]), 0.5))
    return measured_means("accuracy", outcomes, _group_means(preferences))


def decisions(preferences: PreferenceSet, rewards: ArrayLike) -> tuple[np.ndarray, list[str]]:
    """
    K decisions, right or wrong, and the prompt of each.

    An item is right if every chosen answer has a higher reward than every rejected one. RM-Bench's items are mostly
    won in part: there every pair is a decision.

    Args:
        rewards: (N) of `preferences.conversations`.
    """
    rewards = _checked(preferences, rewards)
    prompts = [item.prompt for item in preferences.items]
    if preferences.kind == "rmbench":
        items, chosen, rejected = preferences.pairs
        return rewards[chosen] > rewards[rejected], [prompts[number] for number in items]
    right = [chosen.min() > rejected.max() for chosen, rejected in preferences.rewards_of_items(rewards)]
    return np.array(right), prompts


def judged(preferences: PreferenceSet, rewards: ArrayLike, samples: int = 1000, seed: int = 0) -> Judged:
    """
    What two models are compared by: the decisions that count in the overall accuracy, and what each adds to it.

    Args:
        rewards: (N) of `preferences.conversations`.
    """
    rewards = _checked(preferences, rewards)
    outcomes, (right, prompts) = _outcomes(preferences, rewards), decisions(preferences, rewards)
    means = _group_means(preferences)
    shares = shares_of(means[0])
    added, weights = (
        np.bincount(outcomes.rows, values, minlength=len(right)) for values in (outcomes.values * shares, shares)
    )
    counted = np.flatnonzero(weights)
    draws = mean_draws(outcomes, means, samples, seed)[:, 0]
    return Judged(right[counted], added[counted], [prompts[row] for row in counted], draws)


def remarks(preferences: PreferenceSet) -> list[str]:
    """What a reader must know who compares these accuracies with published ones; empty if nothing."""
    if preferences.kind == "rewardbench":
        return rewardbench.remarks(preferences)
    if preferences.kind == "rewardbench2":
        return rewardbench2.remarks(preferences)
    return rmbench.remarks(preferences) if preferences.kind == "rmbench" else []


def _outcomes(preferences: PreferenceSet, rewards: np.ndarray) -> Outcomes:
    if preferences.kind == "rewardbench2":
        return rewardbench2.outcomes(preferences, rewards)
    _, chosen, rejected = preferences.pairs
    return _of_pairs(preferences, rewards[chosen] > rewards[rejected])


def _of_pairs(preferences: PreferenceSet, values: np.ndarray) -> Outcomes:
    prompts = [preferences.items[number].prompt for number in preferences.pairs[0]]
    return Outcomes(values.astype(float), np.arange(len(values)), prompts)


def _group_means(preferences: PreferenceSet) -> list[GroupMean]:
    if preferences.kind == "rewardbench":
        return rewardbench.group_means(preferences)
    if preferences.kind == "rewardbench2":
        return rewardbench2.group_means(preferences)
    if preferences.kind == "rmbench":
        return rmbench.group_means(preferences)
    return _plain_means(preferences, np.arange(len(preferences.items)))


def _plain_means(preferences: PreferenceSet, items: np.ndarray) -> list[GroupMean]:
    """Of values of these items: all, and each subset."""
    subsets = np.array([preferences.items[number].subset for number in items])
    every = GroupMean(None, None, [(np.ones(len(items), bool), 1.0)])
    return [every, *(GroupMean("subset", name, [(subsets == name, 1.0)]) for name in preferences.subsets)]


def _ties(preferences: PreferenceSet, rewards: np.ndarray) -> tuple[Outcomes, list[GroupMean]]:
    if preferences.kind == "rewardbench2":
        items = np.arange(len(preferences.items))
        tied = [right.min() == wrong.max() for right, wrong in preferences.rewards_of_items(rewards)]
        outcomes = Outcomes(np.array(tied, float), items, [item.prompt for item in preferences.items])
    else:
        items, chosen, rejected = preferences.pairs
        outcomes = _of_pairs(preferences, rewards[chosen] == rewards[rejected])
    return outcomes, _plain_means(preferences, items)


def _checked(preferences: PreferenceSet, rewards: ArrayLike) -> np.ndarray:
    rewards = np.asarray(rewards, dtype=np.float64)
    count = len(preferences.conversations)
    if rewards.shape != (count,):
        raise ValueError(f"`rewards` must have shape ({count},), one for each conversation, got {rewards.shape}.")
    if not np.isfinite(rewards).all():
        first = int(np.flatnonzero(~np.isfinite(rewards))[0])
        raise ValueError(f"the reward of {preferences.origins[first]} is {rewards[first]}; it must be finite.")
    return rewards
