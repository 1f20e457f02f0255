"""
Likelihoods and scores of ratings as pure functions: one Gaussian for losses, metrics and baselines alike.

Shapes: B conversations, n attributes, R ratings of one attribute by several annotators (NaN where there is none).
All take means and stds (B, n) and ratings (B, n, R) on one scale and return one value per rating (B, n, R), 0 where
there is no rating, so that every rating counts and none is invented.
"""

import math

import numpy as np
import torch
from scipy.special import ndtr
from torch import Tensor


def squared_error(means: Tensor, ratings: Tensor) -> Tensor:
    """(mu - s)^2: the paper's 'Ablation', `loss_type="deterministic"`, and the burn-in before a likelihood."""
    # NaN is replaced before the difference, not after: its gradient through `where` would be NaN all the same
    given = ~ratings.isnan()
    return torch.where(given, means.unsqueeze(-1) - ratings.nan_to_num(), 0.0).square()


def gaussian_nll(means: Tensor, stds: Tensor, ratings: Tensor) -> Tensor:
    """-log N(s; mu, sigma^2), Eq. 4. May be negative where sigma is small: it is a density."""
    given = ~ratings.isnan()
    # (B, n, R); NaN is replaced first, as in the squared error
    standardised = (ratings.nan_to_num() - means.unsqueeze(-1)) / stds.unsqueeze(-1)
    nll = 0.5 * standardised.square() + stds.log().unsqueeze(-1) + 0.5 * math.log(2 * math.pi)
    return torch.where(given, nll, 0.0)


def gaussian_nll_of_arrays(means: np.ndarray, stds: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """The same of NumPy's arrays, in double precision: for metrics, which need no gradient."""
    tensors = [torch.as_tensor(values, dtype=torch.float64) for values in (means, stds, ratings)]
    return gaussian_nll(*tensors).numpy()


def gaussian_crps(residuals: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """
    Continuous ranked probability score of N(mu, sigma^2) for s, given s - mu: E|X - s| - E|X - X'| / 2, in units of s.

    Gneiting and Raftery (2007), doi:10.1198/016214506000001437, section 4.2; lower is better.

    Args:
        residuals (`np.ndarray`): s - mu.
        stds (`np.ndarray` of the same shape): sigma, above 0.
    """
    z = residuals / stds  # standardized residuals
    density = np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi)
    return stds * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))


def censored_nll(means: Tensor, stds: Tensor, ratings: Tensor, scales: Tensor) -> Tensor:
    """
    -log P(rating) where a rating is the interval of a latent Gaussian that rounds to it.

    The lowest and highest ratings take the tails. An attribute without a scale gets the density, `gaussian_nll`.

    Args:
        means (`Tensor` of shape `(B, n)`): of the latent Gaussian.
        stds (`Tensor` of shape `(B, n)`): its standard deviations, above 0.
        ratings (`Tensor` of shape `(B, n, R)`): NaN where there is none.
        scales (`Tensor` of shape `(n, 3)`): low, high and step of each attribute, NaN where it has none. Step 0 is a
            continuous scale: ratings inside have a density, those at the ends the tails' mass (two-sided Tobit model).
    """
    # An attribute without a scale is on a continuous one without ends: the same formulas then give its density.
    unscaled = scales.new_tensor([-torch.inf, torch.inf, 0.0])
    low, high, step = torch.where(scales[:, :1].isnan(), unscaled, scales).unsqueeze(-1).unbind(1)
    # (B, n, R), (B, n, 1), (B, n, 1)
    ratings_, mu, sigma = ratings.nan_to_num(), means.unsqueeze(-1), stds.unsqueeze(-1)
    # a rating is the latent value rounded to the nearest step, and all beyond an end of the scale is rated as the end
    upper = torch.where(ratings_ >= high - step / 2, torch.inf, (ratings_ + step / 2 - mu) / sigma)
    lower = torch.where(ratings_ <= low + step / 2, -torch.inf, (ratings_ - step / 2 - mu) / sigma)
    mass = -_log_gaussian_mass(lower, upper)
    inside = torch.isinf(lower) | torch.isinf(upper) | (step > 0)
    density = gaussian_nll(means, stds, ratings)
    return torch.where(ratings.isnan(), 0.0, torch.where(inside, mass, density))


def _log_gaussian_mass(lower: Tensor, upper: Tensor) -> Tensor:
    """log(Phi(upper) - Phi(lower)), exact in both tails; lower may be -inf and upper inf."""
    # the interval mirrored, where needed, to the left of 0: there the difference of log CDFs loses nothing
    flip = lower + upper > 0
    flip = torch.where(torch.isinf(upper), True, flip)
    flip = torch.where(torch.isinf(lower), False, flip)  # last: of the whole line neither side is the better one
    a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_cdf_b = torch.special.log_ndtr(b)
    finite_a = torch.isfinite(a)
    log_cdf_a = torch.special.log_ndtr(torch.where(finite_a, a, 0.0))
    # log(e^b - e^a) = b + log(1 - e^(a - b)), without leaving logs: far in a tail both masses are 0 in float32. The
    # clamp keeps an interval of no width, as rounding may make one, from the log of 0.
    difference = torch.where(finite_a, log_cdf_a - log_cdf_b, -1.0).clamp(max=-1e-7)
    return torch.where(finite_a, log_cdf_b + torch.log(-torch.expm1(difference)), log_cdf_b)
