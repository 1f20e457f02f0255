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
    (mu + alpha sigma - s)^2, Eq. 5.

    Its expectation is (mu - s)^2 + sigma^2, so that sigma is driven to 0 (Eq. 9): it is not the spread of ratings.

    Args:
        means (`Tensor` of shape `(B, n)`): mu.
        stds (`Tensor` of shape `(B, n)`): sigma, above 0.
        ratings (`Tensor` of shape `(B, n, R)`): s; NaN where there is none.
        noise (`Tensor` of shape `(B, n)`): alpha ~ N(0, 1), one for all ratings of an attribute of a conversation.

    Returns:
        `Tensor` of shape `(B, n, R)`; 0 where there is no rating.
    """
    return squared_error(means + noise * stds, ratings)


def beta_nll(means: Tensor, stds: Tensor, ratings: Tensor, beta: float) -> Tensor:
    """
    Gaussian NLL weighted by sigma^(2 beta) without its gradient (Seitzer et al., 2022, arXiv:2203.09168).

    The NLL alone fits the means badly where sigma is large: there a residual has hardly a gradient.

    Args:
        means (`Tensor` of shape `(B, n)`): mu.
        stds (`Tensor` of shape `(B, n)`): sigma, above 0.
        ratings (`Tensor` of shape `(B, n, R)`): s; NaN where there is none.
        beta (`float`): 0 is the NLL; 1 gives the means the gradient of the squared error.

    Returns:
        `Tensor` of shape `(B, n, R)`; 0 where there is no rating.
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
    """
    The loss of that name for each rating.

    Args:
        loss_type (`str`): one of `LOSS_TYPES`.
        means (`Tensor` of shape `(B, n)`): predicted means.
        stds (`Tensor` of shape `(B, n)`): predicted standard deviations, above 0.
        ratings (`Tensor` of shape `(B, n, R)`): NaN where there is none.
        noise (`Tensor` of shape `(B, n)`, *optional*): of "regression". Drawn here by default.
        beta (`float`, *optional*, defaults to `0.5`): of "beta_nll".
        scales (`Tensor` of shape `(n, 3)`, *optional*): of "censored_mle": low, high and step of each attribute.

    Returns:
        `Tensor` of shape `(B, n, R)`; 0 where there is no rating. Means, stds, ratings and scales are in one unit.

    Raises:
        ValueError: no such loss, or "censored_mle" without `scales`.
    """
    if loss_type == "mle":
        return gaussian_nll(means, stds, ratings)
    if loss_type == "regression":
        noise = torch.randn_like(means) if noise is None else noise
        return reparameterised_error(means, stds, ratings, noise)
    if loss_type == "deterministic":
        return squared_error(means, ratings)
    if loss_type == "beta_nll":
        return beta_nll(means, stds, ratings, beta)
    if loss_type == "censored_mle":
        if scales is None:
            raise ValueError('`loss_type="censored_mle"` needs `scales`.')
        return censored_nll(means, stds, ratings, scales)
    raise ValueError(f"`loss_type` must be one of {', '.join(LOSS_TYPES)}, got {loss_type!r}.")
