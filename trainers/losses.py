"""
Losses of the attribute stage as pure functions.

Shapes: B conversations, n attributes, R ratings of one attribute by several annotators (NaN where there is none).
All take means and stds (B, n) and ratings (B, n, R) on one scale and return one loss per rating (B, n, R), 0 where
there is no rating, so that every rating counts and none is invented.
"""

import torch
from torch import Tensor

from urm_hf.statistics.likelihoods import censored_nll, gaussian_nll, squared_error

LOSS_TYPES = ("mle", "regression", "deterministic", "beta_nll", "censored_mle")


def reparameterised_error(means: Tensor, stds: Tensor, ratings: Tensor, noise: Tensor) -> Tensor:
    """
    (mu + alpha sigma - s)^2 with alpha ~ N(0, 1) of shape (B, n), Eq. 5.

    Its expectation is (mu - s)^2 + sigma^2, so that sigma is driven to 0 (Eq. 9): it is not the spread of ratings.
    """
    return squared_error(means + noise * stds, ratings)


def beta_nll(means: Tensor, stds: Tensor, ratings: Tensor, beta: float) -> Tensor:
    """
    Gaussian NLL weighted by sigma^(2 beta) without its gradient (Seitzer et al., 2022, arXiv:2203.09168).

    beta = 0 is the NLL; beta = 1 gives the means the gradient of the squared error.
    """
    return gaussian_nll(means, stds, ratings) * stds.detach().pow(2 * beta).unsqueeze(-1)


def attribute_loss(
    loss_type: str,
    means: Tensor,
    stds: Tensor,
    ratings: Tensor,
    *,
    noise: Tensor | None = None,
    beta: float = 0.5,
    scales: Tensor | None = None,
) -> Tensor:
    """The loss of that name for each rating, (B, n, R). `noise` is for "regression", `scales` for "censored_mle"."""
    if loss_type == "mle":
        return gaussian_nll(means, stds, ratings)
    if loss_type == "regression":
        return reparameterised_error(means, stds, ratings, torch.randn_like(means) if noise is None else noise)
    if loss_type == "deterministic":
        return squared_error(means, ratings)
    if loss_type == "beta_nll":
        return beta_nll(means, stds, ratings, beta)
    if loss_type == "censored_mle":
        if scales is None:
            raise ValueError('`loss_type="censored_mle"` needs `scales`.')
        return censored_nll(means, stds, ratings, scales)
    raise ValueError(f"`loss_type` must be one of {', '.join(LOSS_TYPES)}, got {loss_type!r}.")
