"""The temperature that makes probabilities as sure as they should be, fitted on other prompts than it is judged on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_expit, log_ndtr, ndtr

FOLDS = 5
REACH = 1000.0  # temperatures are searched from 1/REACH to REACH times the mean size of the evidence


@dataclass(frozen=True)
class Link:
    """From evidence to the probability that the chosen answer is better, and to its natural logarithm."""

    probability: Callable[[np.ndarray], np.ndarray]
    log_probability: Callable[[np.ndarray], np.ndarray]


LINKS = {"logistic": Link(expit, log_expit), "gaussian": Link(ndtr, log_ndtr)}


@dataclass(frozen=True)
class Temperature:
    """unbounded: why the likelihood has no maximum in the range that was searched; empty if it has."""

    value: float
    unbounded: str = ""


def fit_temperature(evidence: np.ndarray, link: Link, counts: np.ndarray | None = None) -> Temperature:
    """
    The temperature of the highest likelihood. There is one at most: the likelihood is log-concave in 1 / T.

    Args:
        evidence (P): finite, not all 0. counts (P): how often each pair counts; default: once.
    """
    counts = np.ones(len(evidence)) if counts is None else counts
    mean = np.abs(evidence).mean()
    lowest, highest = mean / REACH, mean * REACH
    if not (evidence[counts > 0] < 0).any():
        return Temperature(lowest, "no pair is wrong: the likelihood rises as long as the temperature falls")

    def nll(log_temperature: float) -> float:
        return -float(counts @ link.log_probability(evidence * np.exp(-log_temperature)))

    searched = minimize_scalar(nll, bounds=np.log([lowest, highest]), method="bounded", options={"xatol": 1e-6})
    found = float(np.exp(searched.x))
    chance = "the rewards order these pairs no better than chance: 1/2 for all of them is likeliest"
    return Temperature(found, chance if found > 0.99 * highest else "")


def crossfitted(evidence: np.ndarray, link: Link, clusters: Sequence[np.ndarray], seed: int) -> np.ndarray:
    """
    (P) for each pair, the temperature that is best for the prompts outside its fold.

    Args:
        clusters: the pairs of each prompt. seed: draws FOLDS folds of prompts, or as many as there are prompts.
    """
    temperatures = np.empty(len(evidence))
    shuffled = np.random.default_rng(seed).permutation(len(clusters))
    for fold in np.array_split(shuffled, min(FOLDS, len(clusters))):
        inside = np.concatenate([clusters[number] for number in fold])
        outside = np.setdiff1d(np.arange(len(evidence)), inside)
        others = evidence[outside]
        temperatures[inside] = fit_temperature(others, link).value if others.any() else 1.0
    return temperatures
