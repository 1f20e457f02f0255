"""Tiny models that were taught what they do not know."""

import numpy as np
import torch

from tests.helpers.tiny import pad_rows, random_rows, tiny_urm
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers.posteriors import fit_head_posterior
from urm_hf.trainers.rated_states import RatedStates
from urm_hf.uncertainty.posterior import Posterior

ROWS = 40


def with_posterior(seed: int = 0, rank: int | None = None, unrated: int = 0) -> tuple[URMForRewardModeling, Posterior]:
    """
    A tiny URM that was taught what it does not know by ratings of random conversations, of which the first `unrated`
    lack a rating of the first attribute.
    """
    model = tiny_urm(seed=seed)
    batch = pad_rows(random_rows(list(range(3, 3 + ROWS)), seed=7))
    with torch.no_grad():
        hidden = model.pool(**batch).float().numpy()
    noise = np.random.default_rng(0).normal(size=(ROWS, 5, 2))
    ratings = hidden[:, :5, None] + noise
    ratings[:unrated, 0] = np.nan
    states = RatedStates(model, hidden, ratings, weigh=False)
    return model, fit_head_posterior(states, rank, [0.5, 0.9])
