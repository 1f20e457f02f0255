"""What a reward model has to beat: the longest answer, and chance."""

import math

from urm_hf.evaluation.benchmarks.benchmark import PreferenceSet
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.pairs.accuracy import random_accuracy
from urm_hf.scores import RewardScore

LONGEST, RANDOM = "longest answer", "random"


def longest_answer(preferences: PreferenceSet) -> list[RewardScore]:
    """Scores whose reward is the length of the answer in characters."""
    return [RewardScore(reward=float(length)) for length in preferences.answer_lengths]


def random_metrics(preferences: PreferenceSet) -> list[Measured]:
    """
    What is expected of random rewards, exactly: accuracy, and of saying 1/2 of every pair Brier score (1/4) and NLL
    (log 2).
    """
    pairs, prompts = len(preferences.pairs[0]), preferences.n_prompts
    guesses = {"brier": 0.25, "nll": math.log(2)}
    return random_accuracy(preferences) + [
        Measured(metric, value, None, pairs, prompts) for metric, value in guesses.items()
    ]
