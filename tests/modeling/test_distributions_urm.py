"""The mathematics against closed forms, brute force and samples."""

import itertools

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from urm_hf.modeling.distributions_urm import bend, gated_reward, max_covariance_norm, max_gap, total_variance

LOW, HIGH = -4.0, 2.0


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slope_of_bend(x: float, dtype: torch.dtype = torch.float64) -> float:
    point = torch.tensor(x, dtype=dtype, requires_grad=True)
    bend(point, LOW, HIGH).backward()
    return point.grad.item()


def test_bend_is_the_identity_between_the_bounds():
    x = torch.linspace(LOW, HIGH, 101)
    assert torch.equal(bend(x, LOW, HIGH), x)


@pytest.mark.parametrize(
    "x, expected",
    [(HIGH + 1, HIGH + 1 / 2), (HIGH + 3, HIGH + 3 / 4), (LOW - 1, LOW - 1 / 2), (LOW - 9, LOW - 9 / 10)],
)
def test_bend_outside_is_the_bound_plus_d_over_one_plus_d(x, expected):
    assert bend(torch.tensor(x, dtype=torch.float64), LOW, HIGH).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("bound", [LOW, HIGH])
@pytest.mark.parametrize("step", [-1e-7, 0.0, 1e-7])
def test_bend_has_slope_one_at_and_on_both_sides_of_a_bound(bound, step):
    assert slope_of_bend(bound + step) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("x, limit", [(1e9, HIGH + 1), (-1e9, LOW - 1)])
def test_bend_tends_to_one_beyond_the_bound(x, limit):
    assert bend(torch.tensor(x, dtype=torch.float64), LOW, HIGH).item() == pytest.approx(limit, abs=1e-8)


def test_bend_increases_strictly():
    x = torch.linspace(-200, 200, 4001, dtype=torch.float64)
    assert (bend(x, LOW, HIGH).diff() > 0).all()


@pytest.mark.parametrize("distance", [1.0, 10.0, 1000.0])
@pytest.mark.parametrize("bound, side", [(LOW, -1), (HIGH, 1)])
def test_bend_keeps_a_positive_gradient_in_float32(bound, side, distance):
    slope = slope_of_bend(bound + side * distance, torch.float32)
    assert slope == pytest.approx((1 + distance) ** -2, rel=1e-2)


@pytest.mark.parametrize("sign", [-1, 1])
def test_bend_and_its_gradient_stay_finite_at_the_ends_of_float32(sign):
    x = torch.tensor(sign * torch.finfo(torch.float32).max, requires_grad=True)
    y = bend(x, LOW, HIGH)
    y.backward()
    assert y.item() == (HIGH + 1 if sign > 0 else LOW - 1)
    assert torch.isfinite(x.grad)


def test_gated_reward_is_the_linear_image_of_a_diagonal_gaussian():
    means, stds, weights = seeded(7, 5), seeded(7, 5, seed=1).exp(), seeded(7, 5, seed=2)
    gaussian = MultivariateNormal(means, covariance_matrix=torch.diag_embed(stds**2))
    reward, reward_std = gated_reward(means, stds, weights)
    variance = torch.einsum("bi,bij,bj->b", weights, gaussian.covariance_matrix, weights)
    torch.testing.assert_close(reward, torch.einsum("bi,bi->b", weights, gaussian.mean))
    torch.testing.assert_close(reward_std, variance.sqrt())


def test_gated_reward_is_the_mean_and_std_of_weighted_samples():
    means, stds, weights = torch.tensor([[1.0, -2.0, 3.0], [0.5, 1.0, 2.0], [0.7, -1.5, 0.2]])
    torch.manual_seed(0)
    samples = Normal(means, stds).sample((200_000,)) @ weights
    reward, reward_std = gated_reward(means, stds, weights)
    assert reward.item() == pytest.approx(samples.mean().item(), abs=0.02)
    assert reward_std.item() == pytest.approx(samples.std().item(), rel=0.01)


def test_gated_reward_drops_only_the_last_axis():
    x = torch.ones(3, 4, 5)
    assert [part.shape for part in gated_reward(x, x, x)] == [(3, 4), (3, 4)]


@pytest.mark.parametrize("shape", [(3, 4), (5, 4, 2)])
def test_max_gap_is_the_largest_difference_over_all_pairs(shape):
    values = seeded(*shape)
    pairs = [(a - b).abs() for a, b in itertools.combinations(values, 2)]
    torch.testing.assert_close(max_gap(values), torch.stack(pairs).amax(0))


def test_max_gap_of_one_member_is_zero():
    assert torch.equal(max_gap(seeded(1, 4)), torch.zeros(4, dtype=torch.float64))


def test_max_covariance_norm_is_the_largest_frobenius_norm_of_the_diagonal_matrices():
    stds = seeded(3, 4, 5).exp()
    norms = torch.linalg.matrix_norm(torch.diag_embed(stds**2), ord="fro")
    torch.testing.assert_close(max_covariance_norm(stds), norms.amax(0))


def test_max_covariance_norm_of_unit_variances_is_sqrt_n():
    assert max_covariance_norm(torch.ones(2, 1, 4)).tolist() == [2.0]


def test_total_variance_is_the_variance_of_samples_from_the_mixture():
    means, stds = seeded(3, 1, 2), seeded(3, 1, 2, seed=1).exp()
    aleatoric, epistemic = total_variance(means, stds)
    torch.manual_seed(0)
    samples = Normal(means, stds).sample((200_000,)).reshape(-1, 1, 2)  # as many from each member
    torch.testing.assert_close(aleatoric + epistemic, samples.var(0), rtol=0.02, atol=0)


def test_epistemic_variance_has_divisor_m_as_numpy_has():
    means = seeded(3, 4, 2)
    _, epistemic = total_variance(means, torch.ones_like(means))
    np.testing.assert_allclose(epistemic.numpy(), np.var(means.numpy(), axis=0))


def test_aleatoric_variance_averages_variances_and_not_stds():
    stds = torch.tensor([1.0, 3.0]).reshape(2, 1, 1)
    aleatoric, _ = total_variance(torch.zeros_like(stds), stds)
    assert aleatoric.tolist() == [[5.0]]


def test_identical_members_have_no_epistemic_variance_and_no_gap():
    means = seeded(1, 4, 5).expand(3, 4, 5)
    aleatoric, epistemic = total_variance(means, means.exp())
    torch.testing.assert_close(epistemic, torch.zeros(4, 5, dtype=torch.float64), atol=1e-24, rtol=0)
    torch.testing.assert_close(aleatoric, means[0].exp() ** 2)
    assert torch.equal(max_gap(means), torch.zeros(4, 5, dtype=torch.float64))
