"""The losses against scipy, closed forms and Monte Carlo."""

import math

import pytest
import torch
from scipy import stats

from tests.helpers.predictions import NAN, SCALE, assert_close, one, predictions, reference
from urm_hf.trainers.losses import (
    LOSS_TYPES,
    attribute_loss,
    beta_nll,
    censored_nll,
    gaussian_nll,
    reparameterised_error,
    squared_error,
)


def test_gaussian_nll_is_minus_the_log_density():
    inputs = predictions()
    assert_close(gaussian_nll(*inputs), reference(lambda s, mu, sigma: -stats.norm.logpdf(s, mu, sigma), *inputs))


def test_gaussian_nll_is_negative_for_a_confident_hit():
    loss = gaussian_nll(*one(2.0, 0.01, [2.0]))
    assert loss.item() == pytest.approx(math.log(0.01 * math.sqrt(2 * math.pi)))


def test_gaussian_nll_is_least_at_the_sample_mean_and_spread():
    ratings = torch.tensor([[[1.0, 2.0, 2.0, 4.0]]], dtype=torch.float64)
    means = torch.tensor([[ratings.mean()]], dtype=torch.float64, requires_grad=True)
    stds = torch.tensor([[ratings.std(correction=0)]], dtype=torch.float64, requires_grad=True)
    gaussian_nll(means, stds, ratings).sum().backward()
    assert [means.grad.item(), stds.grad.item()] == pytest.approx([0, 0], abs=1e-12)


def test_squared_error_is_that_of_every_rating():
    inputs = predictions()
    assert_close(squared_error(inputs[0], inputs[2]), reference(lambda s, mu, sigma: (mu - s) ** 2, *inputs))


def test_reparameterised_error_is_the_squared_error_of_a_sample():
    means, stds, ratings = predictions()
    noise = torch.randn(means.shape, dtype=torch.float64)
    sample = (means + noise * stds).detach()
    assert_close(reparameterised_error(means, stds, ratings, noise), squared_error(sample, ratings).numpy(), 1e-12)


def sampled(count: int = 200_000):
    """One prediction and one rating, `count` times, with that many draws of the noise."""
    generator = torch.Generator().manual_seed(1)
    mu, log_sigma, s = 1.2, math.log(0.7), 3.0
    log_sigmas = torch.full((count, 1), log_sigma, dtype=torch.float64, requires_grad=True)
    means = torch.full((count, 1), mu, dtype=torch.float64)
    noise = torch.randn(count, 1, generator=generator, dtype=torch.float64)
    loss = reparameterised_error(means, log_sigmas.exp(), torch.full((count, 1, 1), s, dtype=torch.float64), noise)
    return loss, log_sigmas, mu, math.exp(log_sigma), s


def test_reparameterised_error_is_bias_and_variance_in_expectation():
    loss, _, mu, sigma, s = sampled()
    error = loss.std().item() / math.sqrt(len(loss))
    assert loss.mean().item() == pytest.approx((mu - s) ** 2 + sigma**2, abs=5 * error)


def test_reparameterised_error_drives_sigma_to_zero_in_expectation():
    """Eq. 9: the gradient for log sigma is 2 sigma^2 in expectation, wherever the rating is."""
    loss, log_sigmas, _, sigma, _ = sampled()
    loss.sum().backward()
    error = log_sigmas.grad.std().item() / math.sqrt(len(loss))
    assert error < 0.1 * 2 * sigma**2  # the estimate is sharp enough to tell the sign
    assert log_sigmas.grad.mean().item() == pytest.approx(2 * sigma**2, abs=5 * error)


def test_deterministic_leaves_sigma_without_a_gradient():
    means, stds, ratings = predictions()
    loss = attribute_loss("deterministic", means, stds, ratings).sum()
    assert torch.autograd.grad(loss, stds, allow_unused=True) == (None,)


def test_beta_0_is_the_gaussian_nll():
    means, stds, ratings = predictions()
    assert_close(beta_nll(means, stds, ratings, 0.0), gaussian_nll(means, stds, ratings).detach().numpy())


def test_beta_1_gives_the_means_the_gradient_of_half_the_squared_error():
    means, stds, ratings = predictions()
    (actual,) = torch.autograd.grad(beta_nll(means, stds, ratings, 1.0).sum(), means)
    (expected,) = torch.autograd.grad(0.5 * squared_error(means, ratings).sum(), means)
    torch.testing.assert_close(actual, expected)


@pytest.mark.parametrize("beta", [0.25, 0.5, 1.0])
def test_beta_multiplies_every_gradient_of_the_nll_by_a_constant(beta):
    means, stds, ratings = predictions()
    actual = torch.autograd.grad(beta_nll(means, stds, ratings, beta).sum(), [means, stds])
    expected = torch.autograd.grad(gaussian_nll(means, stds, ratings).sum(), [means, stds])
    for gradient, plain in zip(actual, expected):
        torch.testing.assert_close(gradient, plain * stds.detach() ** (2 * beta))


# What all losses share


def options(loss_type: str) -> dict:
    return {"censored_mle": {"scales": SCALE}, "regression": {"noise": torch.ones(6, 3).double()}}.get(loss_type, {})


def cast(kwargs: dict, dtype: torch.dtype) -> dict:
    return {name: tensor.to(dtype) for name, tensor in kwargs.items()}


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_a_missing_rating_costs_exactly_nothing(loss_type):
    means, stds, ratings = predictions()
    loss = attribute_loss(loss_type, means, stds, ratings, **options(loss_type))
    assert loss[1, 2, 1].item() == 0
    assert (loss != 0).sum() == ratings.numel() - 1


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_an_attribute_without_ratings_gets_no_gradient(loss_type):
    means, stds, ratings = predictions()
    ratings[:, 1] = NAN
    loss = attribute_loss(loss_type, means, stds, ratings, **options(loss_type)).sum()
    gradients = torch.autograd.grad(loss, [means, stds], allow_unused=True)
    for gradient in (gradient for gradient in gradients if gradient is not None):
        assert gradient[:, 1].eq(0).all()
        assert gradient[:, [0, 2]].ne(0).all()


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_losses_of_annotators_are_the_losses_of_each_alone(loss_type):
    means, stds, ratings = predictions()
    together = attribute_loss(loss_type, means, stds, ratings, **options(loss_type))
    alone = [attribute_loss(loss_type, means, stds, ratings[..., r : r + 1], **options(loss_type)) for r in range(2)]
    torch.testing.assert_close(together, torch.cat(alone, dim=-1))


@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_float32_agrees_with_float64(loss_type):
    results = []
    for dtype in (torch.float32, torch.float64):
        means, stds, ratings = predictions(dtype=dtype)
        loss = attribute_loss(loss_type, means, stds, ratings, **cast(options(loss_type), dtype))
        loss.sum().backward()
        results.append([loss.double(), means.grad.double()])
    torch.testing.assert_close(results[0], results[1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize(
    "loss_type, function",
    {
        "mle": gaussian_nll,
        "regression": lambda *inputs: reparameterised_error(*inputs, torch.ones(6, 3).double()),
        "deterministic": lambda means, stds, ratings: squared_error(means, ratings),
        "beta_nll": lambda *inputs: beta_nll(*inputs, 0.5),
        "censored_mle": lambda *inputs: censored_nll(*inputs, SCALE),
    }.items(),
)
def test_each_name_stands_for_its_loss(loss_type, function):
    inputs = predictions()
    torch.testing.assert_close(attribute_loss(loss_type, *inputs, **options(loss_type)), function(*inputs))


def test_regression_draws_its_noise_for_each_conversation_and_attribute():
    means, stds = torch.zeros(500, 4), torch.full((500, 4), 2.0)
    samples = attribute_loss("regression", means, stds, torch.zeros(500, 4, 1)).sqrt() / 2  # |alpha|
    assert stats.kstest(samples.flatten().numpy(), stats.halfnorm.cdf).pvalue > 1e-3
    assert len(samples.unique()) > 1990


def test_regression_shares_its_noise_among_the_annotators_of_a_row():
    loss = attribute_loss("regression", torch.zeros(5, 1), torch.ones(5, 1), torch.zeros(5, 1, 3))
    assert loss.eq(loss[..., :1]).all()


def test_an_unknown_loss_type_is_named():
    with pytest.raises(ValueError, match="`loss_type` must be one of mle, .*got 'mse'"):
        attribute_loss("mse", *predictions())
