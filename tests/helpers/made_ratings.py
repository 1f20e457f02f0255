"""Ratings and predictions of them, at random."""

import numpy as np

from urm_hf.data.conversations import read_conversation
from urm_hf.evaluation.ratings.data import RatingSet
from urm_hf.scores import RewardScore

NAMES = ["fluency", "depth"]


def made_up(rows: int = 60, annotators: int = 4, prompts: int = 20, missing: float = 0.2, seed: int = 0) -> RatingSet:
    rng = np.random.default_rng(seed)
    ratings = rng.normal(3, 1, (rows, 2, 1)) + rng.normal(0, 0.7, (rows, 2, annotators))
    ratings[..., 1:][rng.random((rows, 2, annotators - 1)) < missing] = np.nan  # each row has at least one
    keys = [f"prompt {i % prompts}" for i in range(rows)]
    conversations = [read_conversation({"prompt": key, "response": f"answer {i}"}) for i, key in enumerate(keys)]
    return RatingSet("made up", NAMES, conversations, keys, ratings, {name: [-5.0, 11.0] for name in NAMES})


def scores_of(data: RatingSet, names=None, seed: int = 0) -> list[RewardScore]:
    """Of a model that knows something of every attribute."""
    rng, found = np.random.default_rng(seed), []
    for row in data.ratings:
        means = np.nanmean(row, axis=1) + rng.normal(0, 0.8, len(row))
        stds = rng.uniform(0.4, 1.5, len(row))
        by_name = (dict(zip(names or data.attributes, values.tolist())) for values in (means, stds))
        found.append(RewardScore(float(means.sum()), 1.0, *by_name))
    return found


def arrays_of(scores) -> tuple[np.ndarray, np.ndarray]:
    """Means and stds (N, n)."""
    return tuple(
        np.array([list(s[field].values()) for s in scores]) for field in ("attribute_means", "attribute_stds")
    )
