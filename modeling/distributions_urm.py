"""
The mathematics of URM and URME, as pure functions of tensors. This file travels with every checkpoint.

Shapes: B conversations, n attributes, M ensemble members. The member axis comes first and is never folded into B.
"""

from torch import Tensor
from torch.nn.functional import mse_loss, relu


def bend(x: Tensor, low: float, high: float) -> Tensor:
    """
    x where low <= x <= high; beyond, bends smoothly towards low - 1 and high + 1.

    The slope is 1 at the bounds and stays positive outside, so that no gradient dies as it does under a clamp.
    """
    below, above = relu(low - x), relu(x - high)  # slope 0 at 0, so that the sum's is 1 at the bounds
    return x.clamp(low, high) - below / (1 + below) + above / (1 + above)


def gated_reward(means: Tensor, stds: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """
    Reward r = sum_k w_k mu_k and its standard deviation sqrt(sum_k w_k^2 sigma_k^2), from (..., n) to (...).

    The attributes are independent given the conversation (diagonal covariance), the weights are not random.
    """
    reward = (weights * means).sum(-1)
    reward_std = (weights * stds).square().sum(-1).sqrt()
    return reward, reward_std


def squared_error(rewards: Tensor, labels: Tensor) -> Tensor:
    """mean (r - y)^2 in float32, of (B,) and (B,) or (B, 1): the loss of transformers' classifiers with one label."""
    return mse_loss(rewards.float(), labels.reshape(rewards.shape).to(rewards.device, rewards.dtype).float())


def max_gap(values: Tensor) -> Tensor:
    """max_ij |v_i - v_j| over the members (M, ...) -> (...). Eq. 7 on rewards, or per attribute on means."""
    return values.amax(0) - values.amin(0)


def max_covariance_norm(stds: Tensor) -> Tensor:
    """
    max_i ||Sigma_i||_F = max_i sqrt(sum_k sigma_ik^4), (M, B, n) -> (B,). Eq. 8.

    The paper's equation does not name the norm; the Frobenius norm is that of MOPO (Yu et al., 2020), its source.
    """
    return stds.square().norm(dim=-1).amax(0)


def total_variance(means: Tensor, stds: Tensor) -> tuple[Tensor, Tensor]:
    """
    Law of total variance over the members, (M, B, n) -> aleatoric (B, n), epistemic (B, n); their sum is the total.

    aleatoric = mean_i sigma_i^2; epistemic = population variance of mu_i (divisor M).
    """
    return stds.square().mean(0), means.var(0, correction=0)


def aggregate_rewards(rewards: Tensor, how: str = "mean", k: float = 1.0) -> Tensor:
    """
    One reward of M members' (M, B) -> (B,).

    "mean" is the paper's; "min" and "mean_minus_k_std" are conservative (Coste et al., 2024, arXiv:2310.02743, use the
    minimum and a penalised mean): mean - k * population standard deviation over members.
    """
    if how == "mean":
        return rewards.mean(0)
    if how == "min":
        return rewards.amin(0)
    if how == "mean_minus_k_std":
        return rewards.mean(0) - k * rewards.std(0, correction=0)
    raise ValueError(f"`how` must be mean, min or mean_minus_k_std, got {how!r}.")
