"""Predictions and ratings drawn for losses, and sums over scipy."""

import numpy as np
import torch

NAN = float("nan")


def predictions(rows: int = 6, attributes: int = 3, annotators: int = 2, dtype=torch.float64, seed: int = 0):
    """Means and stds (B, n) that can be differentiated, and ratings (B, n, R) with one gap."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(rows, attributes, generator=generator, dtype=torch.float64) * 2
    stds = torch.rand(rows, attributes, generator=generator, dtype=torch.float64) + 0.3
    ratings = torch.randint(0, 5, (rows, attributes, annotators), generator=generator).double()
    ratings[1, 2, 1] = NAN
    return means.to(dtype).requires_grad_(), stds.to(dtype).requires_grad_(), ratings.to(dtype)


def reference(function, means, stds, ratings) -> np.ndarray:
    """`function(s, mu, sigma)` of every rating in numpy, 0 where there is none."""
    mu, sigma, s = means.detach().numpy()[..., None], stds.detach().numpy()[..., None], ratings.numpy()
    return np.where(np.isnan(s), 0.0, function(np.nan_to_num(s), mu, sigma))


def assert_close(actual: torch.Tensor, expected: np.ndarray, rtol: float = 1e-9):
    np.testing.assert_allclose(actual.detach().numpy(), expected, rtol=rtol, atol=1e-12)


def one(mean: float, std: float, ratings: list[float], dtype=torch.float64):
    """A single prediction that can be differentiated, and its ratings."""
    mean, std = (torch.tensor([[value]], dtype=dtype, requires_grad=True) for value in (mean, std))
    return mean, std, torch.tensor([[ratings]], dtype=dtype)


SCALE = torch.tensor([[0.0, 4.0, 1.0]] * 3, dtype=torch.float64)
