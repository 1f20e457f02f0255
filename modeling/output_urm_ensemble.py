"""
What an ensemble answers, and how it follows from its members' answers. This file travels with ensemble repositories.

Shapes: M members, B conversations, n attributes. The member axis comes first and is never folded into B.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.utils import ModelOutput

from .configuration_urm_ensemble import URMEnsembleConfig
from .distributions_urm import aggregate_rewards, max_covariance_norm, max_gap, total_variance
from .modeling_urm import URMOutput


@dataclass
class URMEnsembleOutput(ModelOutput):
    """
    Args:
        logits (`(B, 1)`, float32): the members' rewards as one, by default their mean; higher is better.
        rewards (`(M, B)`): each member's reward; standardised, if the ensemble was.
        reward_std (`(B,)`): root of the total variance of the reward over members, in its unit; higher = less sure.
        reward_epistemic_std (`(B,)`): root of the part of it that is not noise of ratings; higher = less known.
        reward_gap (`(B,)`): max_ij |r_i - r_j|, Eq. 7, in the unit of the reward; higher = less known.
        covariance_norm (`(B,)`): max_i ||Sigma_i||_F, Eq. 8, in squared units of the ratings; higher = less sure.
        attribute_gap (`(B, n)`): Eq. 7 on each attribute's means, on the scale of the ratings.
        attribute_means, attribute_stds, gating_weights (`(M, B, n)`): each member's distribution and gate.
        aleatoric_variance (`(B, n)`): mean over members of sigma^2: noise of the ratings.
        epistemic_variance (`(B, n)`): what training data did not settle: the sum of the two that follow.
        disagreement_variance (`(B, n)`): population variance over members of mu.
        posterior_variance (`(B, n)`): mean over members of the variance that their posteriors leave to mu; absent, and
            counted as nothing, unless every member has a posterior.
    """

    logits: Tensor | None = None
    rewards: Tensor | None = None
    reward_std: Tensor | None = None
    reward_gap: Tensor | None = None
    covariance_norm: Tensor | None = None
    attribute_gap: Tensor | None = None
    attribute_means: Tensor | None = None
    attribute_stds: Tensor | None = None
    gating_weights: Tensor | None = None
    aleatoric_variance: Tensor | None = None
    epistemic_variance: Tensor | None = None
    disagreement_variance: Tensor | None = None
    posterior_variance: Tensor | None = None
    reward_epistemic_std: Tensor | None = None


class NonFiniteReward(ValueError):
    """A reward is NaN or infinite; `rows` are its rows in the batch."""

    def __init__(self, message: str, rows: list[int]):
        super().__init__(message)
        self.rows = rows


def put_on_one_scale(rewards: Tensor, config: URMEnsembleConfig) -> tuple[Tensor, Tensor]:
    """
    The members' rewards (M, B) as the ensemble compares them, and by what each member's were divided (M, 1): 1 unless
    the ensemble was standardised.
    """
    if config.reward_means is None:
        return rewards, rewards.new_ones(len(rewards), 1)
    scale = rewards.new_tensor(config.reward_stds)[:, None]
    return (rewards - rewards.new_tensor(config.reward_means)[:, None]) / scale, scale


def combine(outputs: Sequence[URMOutput], config: URMEnsembleConfig) -> URMEnsembleOutput:
    """
    The ensemble's output from one output per member for the same B conversations.

    By the law of total variance a rating varies by the mean of the members' sigma^2, the variance of their means, and
    the mean of what each does not know of its own mean.

    Raises:
        NonFiniteReward: a member gave a reward that is not finite.
    """
    device = outputs[0]["logits"].device
    fields = ("logits", "attribute_means", "attribute_stds", "gating_weights", "reward_std")
    rewards, means, stds, weights, reward_stds = (
        torch.stack([output[field].to(device) for output in outputs]) for field in fields
    )
    rewards = rewards.squeeze(-1)
    for name, reward in zip(config.members, rewards, strict=True):
        if not torch.compiler.is_compiling() and not torch.isfinite(reward).all():
            rows = (~torch.isfinite(reward)).nonzero().flatten().tolist()
            raise NonFiniteReward(f"Member {name} gave rewards that are not finite in rows {rows[:8]}.", rows)
    rewards, scale = put_on_one_scale(rewards, config)
    reward_stds = reward_stds / scale
    aleatoric, disagreement = total_variance(means, stds)
    reward_aleatoric, reward_epistemic = total_variance(rewards, reward_stds)
    posteriors: dict[str, Tensor] = {}
    if all("attribute_epistemic_stds" in output for output in outputs):
        names = ("attribute_epistemic_stds", "reward_epistemic_std")
        unknown, reward_unknown = (torch.stack([output[name].to(device) for output in outputs]) for name in names)
        posteriors["posterior_variance"] = unknown.square().mean(0)
        reward_epistemic = reward_epistemic + (reward_unknown / scale).square().mean(0)
    return URMEnsembleOutput(
        logits=aggregate_rewards(rewards, config.aggregation, config.aggregation_k).unsqueeze(-1),
        rewards=rewards,
        reward_std=(reward_aleatoric + reward_epistemic).sqrt(),
        reward_epistemic_std=reward_epistemic.sqrt(),
        reward_gap=max_gap(rewards),
        covariance_norm=max_covariance_norm(stds),
        attribute_gap=max_gap(means),
        attribute_means=means,
        attribute_stds=stds,
        gating_weights=weights,
        aleatoric_variance=aleatoric,
        epistemic_variance=disagreement + posteriors.get("posterior_variance", 0),
        disagreement_variance=disagreement,
        **posteriors,
    )
