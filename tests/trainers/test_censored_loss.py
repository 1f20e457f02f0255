"""The likelihood of ratings on a scale with ends and steps, against scipy and closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.helpers.predictions import NAN, SCALE, assert_close, one, predictions, reference
from urm_hf.trainers.losses import censored_nll, gaussian_nll


def unscaled(rows: int = 1) -> torch.Tensor:
    return torch.full((rows, 3), NAN, dtype=torch.float64)


# Censored likelihood


@pytest.mark.parametrize("scale", [[0, 4, 1], [1, 5, 0.5], [-2, 2, 4], [0, 100, 10]], ids=str)
def test_the_probabilities_of_all_ratings_of_a_scale_sum_to_1(scale):
    low, high, step = scale
    ratings = torch.arange(low, high + step / 2, step, dtype=torch.float64).reshape(1, 1, -1)
    means, stds, _ = one(1.3, 1.7, [])
    loss = censored_nll(means, stds, ratings, torch.tensor([scale], dtype=torch.float64))
    assert loss.neg().exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_censored_nll_is_the_mass_of_the_rating_s_interval():
    means, stds, ratings = predictions()
    stds = stds + 1  # a difference of CDFs is exact near the middle

    def mass(s, mu, sigma):
        upper = np.where(s == 4, np.inf, s + 0.5)
        lower = np.where(s == 0, -np.inf, s - 0.5)
        return -np.log(stats.norm.cdf(upper, mu, sigma) - stats.norm.cdf(lower, mu, sigma))

    assert_close(censored_nll(means, stds, ratings, SCALE), reference(mass, means, stds, ratings), 1e-6)


@pytest.mark.parametrize("rating, tail", [(0.0, stats.norm.logcdf), (4.0, stats.norm.logsf)])
@pytest.mark.parametrize("mean", [-40.0, -3.0, 2.0, 7.0, 40.0])
def test_the_ends_of_a_scale_take_the_tails(rating, tail, mean):
    loss = censored_nll(*one(mean, 1.0, [rating]), SCALE[:1])
    edge = 0.5 if rating == 0 else 3.5
    assert loss.item() == pytest.approx(-tail(edge - mean), rel=1e-9)


@pytest.mark.parametrize("mean", [-28.0, 32.0])
def test_an_interval_far_in_a_tail_is_exact(mean):
    """30 sigma away both CDFs are 0 or 1 in float64; the log of their difference is not."""
    loss = censored_nll(*one(mean, 1.0, [2.0]), SCALE[:1])
    near, far = sorted([abs(1.5 - mean), abs(2.5 - mean)])
    expected = stats.norm.logsf(near) + np.log1p(-np.exp(stats.norm.logsf(far) - stats.norm.logsf(near)))
    assert loss.item() == pytest.approx(-expected, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rating", [0.0, 2.0, 4.0])
@pytest.mark.parametrize("mean, std", [(-28.0, 1.0), (32.0, 1.0), (-1e3, 1.0), (2.0, 1e3), (2.0, 1e-2), (2.4, 1e-2)])
def test_censored_nll_and_its_gradients_are_finite_far_out(dtype, rating, mean, std):
    means, stds, ratings = one(mean, std, [rating], dtype)
    loss = censored_nll(means, stds, ratings, SCALE[:1].to(dtype))
    gradients = torch.autograd.grad(loss.sum(), [means, stds])
    assert [bool(tensor.isfinite().all()) for tensor in (loss, *gradients)] == [True] * 3


@pytest.mark.parametrize("mean", [-28.0, 32.0])
def test_the_gradient_of_a_far_mean_points_to_the_rating(mean):
    means, stds, ratings = one(mean, 1.0, [2.0], torch.float32)
    censored_nll(means, stds, ratings, SCALE[:1].float()).sum().backward()
    # log P is about -z^2/2, so that the gradient is about the distance to the near edge of the interval
    assert means.grad.item() == pytest.approx(math.copysign(abs(mean - 2.0) - 0.5, mean), rel=0.01)


def test_step_0_is_a_two_sided_tobit_model():
    scales = torch.tensor([[0.0, 100.0, 0.0]], dtype=torch.float64)
    loss = censored_nll(*one(60.0, 30.0, [0.0, 37.5, 100.0]), scales)
    expected = [stats.norm.logcdf(0, 60, 30), stats.norm.logpdf(37.5, 60, 30), stats.norm.logsf(100, 60, 30)]
    assert_close(-loss, np.array([[expected]]))


def test_a_fine_scale_gives_the_density_times_its_step():
    scales = torch.tensor([[0.0, 100.0, 0.01]], dtype=torch.float64)
    loss = censored_nll(*one(60.0, 30.0, [37.5]), scales)
    assert loss.item() == pytest.approx(-stats.norm.logpdf(37.5, 60, 30) - math.log(0.01), rel=1e-6)


def test_an_attribute_without_a_scale_gets_the_density():
    means, stds, ratings = predictions()
    scales = torch.cat([SCALE[:1], unscaled(), SCALE[2:]])
    loss = censored_nll(means, stds, ratings, scales)
    torch.testing.assert_close(loss[:, 1], gaussian_nll(means, stds, ratings)[:, 1])
    torch.testing.assert_close(loss[:, [0, 2]], censored_nll(means, stds, ratings, SCALE)[:, [0, 2]])


@pytest.mark.parametrize("scale", [[NAN, NAN, NAN], [0.0, 100.0, 0.0]], ids=["no scale", "continuous"])
def test_a_density_beside_intervals_has_the_gradients_of_the_gaussian_nll(scale):
    *inputs, ratings = one(2.0, 0.7, [3.0], torch.float32)
    actual = torch.autograd.grad(censored_nll(*inputs, ratings, torch.tensor([scale])).sum(), inputs)
    expected = torch.autograd.grad(gaussian_nll(*inputs, ratings).sum(), inputs)
    torch.testing.assert_close(actual, expected)


def test_the_gradient_of_the_censored_nll_is_that_of_finite_differences():
    means, stds, ratings = predictions(rows=3)
    assert torch.autograd.gradcheck(lambda m, s: censored_nll(m, s, ratings, SCALE), (means, stds))
