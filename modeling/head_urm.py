"""The uncertainty-aware head: value head and gate. This file travels with every checkpoint."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils import logging

from .configuration_urm import URMConfig
from .distributions_urm import bend, gated_reward

logger = logging.get_logger(__name__)

_PARTS = ("center", "scale", "basis", "offsets", "variances", "rest", "intercept", "weights", "mean", "noise")
POSTERIOR = tuple(f"posterior_{part}" for part in _PARTS)
SIGNED = tuple(f"posterior_{part}" for part in ("center", "basis", "offsets", "weights", "mean"))  # may be negative


class Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under any autocast and whatever dtype its weights were cast to."""

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        super().__init__(in_features, out_features, bias, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.weight.float(), None if self.bias is None else self.bias.float())


class URMHead(nn.Module):
    """
    Value head (mu, log sigma) = W h and gating MLP w = MLP(h).

    `feature_mean` and `feature_scale` standardise h, `label_mean` and `label_std` take the prediction to the rating
    scale. They are 0 and 1 unless a trainer measured them, and are saved with the weights, so that an adapter carries
    them as well. So is the posterior over the means, if one was fitted: buffers `posterior_*`, see `set_posterior`.
    """

    feature_mean: Tensor
    feature_scale: Tensor
    label_mean: Tensor
    label_std: Tensor
    posterior_center: Tensor
    posterior_scale: Tensor
    posterior_basis: Tensor
    posterior_offsets: Tensor
    posterior_variances: Tensor
    posterior_rest: Tensor
    posterior_intercept: Tensor
    posterior_weights: Tensor
    posterior_mean: Tensor
    posterior_noise: Tensor

    def __init__(self, config: URMConfig):
        super().__init__()
        hidden, width, n = config.hidden_size, config.gating_hidden_size, len(config.attributes)
        self.config = config
        self.register_buffer("feature_mean", torch.zeros(hidden, dtype=torch.float32))
        self.register_buffer("feature_scale", torch.ones(hidden, dtype=torch.float32))
        self.register_buffer("label_mean", torch.tensor(config.label_means, dtype=torch.float32))
        self.register_buffer("label_std", torch.tensor(config.label_stds, dtype=torch.float32))
        self.value = Float32Linear(hidden, 2 * n, bias=False)  # rows: n means, then n log standard deviations
        self.gate = None
        if config.reward_weights is None:
            self.gate = nn.Sequential(
                Float32Linear(hidden, width),
                nn.SELU(),
                Float32Linear(width, width),
                nn.SELU(),
                Float32Linear(width, n),
            )
        self.expect_posterior(config.posterior_rank, config.posterior_correlated)

    def _posterior_shapes(self, rank: int, correlated: bool = False) -> tuple[tuple[int, ...], ...]:
        hidden, n = self.config.hidden_size, len(self.config.attributes)
        variances = (n, rank, rank) if correlated else (n, rank)
        return (hidden,), (hidden,), (hidden, rank), (n, rank), variances, (n,), (n,), (n, rank), (n,), (n,)

    def reset_parameters(self):
        """
        Small means and log sigmas: the first predictions are near the mean and spread of the ratings. SELU wants
        weights of variance 1/fan_in (Klambauer et al., 2017); the last layer starts near equal weights 1/n.
        """
        nn.init.zeros_(self.feature_mean)
        nn.init.ones_(self.feature_scale)
        self.set_label_statistics(self.config.label_means, self.config.label_stds)
        if self.has_posterior:  # of weights that are drawn anew nothing is known
            for name in POSTERIOR:
                nn.init.ones_(getattr(self, name))
            for part in (self.posterior_center, self.posterior_offsets, self.posterior_weights):
                nn.init.zeros_(part)
            nn.init.eye_(self.posterior_basis)
        nn.init.normal_(self.value.weight, std=0.1 * self.value.in_features**-0.5)
        if self.gate is not None:
            for layer in (self.gate[0], self.gate[2]):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
                nn.init.zeros_(layer.bias)
            nn.init.normal_(self.gate[4].weight, std=0.1 * self.gate[4].in_features ** -0.5)
            nn.init.constant_(self.gate[4].bias, 1 / len(self.config.attributes))

    @torch.no_grad()
    def set_label_statistics(self, means: list[float], stds: list[float]):
        """The location and scale of the ratings, in the head and, for people and other tools, in the config."""
        self.label_mean.copy_(torch.tensor(means))
        self.label_std.copy_(torch.tensor(stds))
        self.config.label_means, self.config.label_stds = list(means), list(stds)

    @torch.no_grad()
    def standardize_features(self, hidden: Tensor):
        """
        Makes the head read (h - mean) / std of these hidden states (N, H), plus a constant 1/2 in every feature.

        The constant stands in for the bias that W does not have: without it centred features would fix the average
        of mu and of log sigma.
        """
        std, mean = torch.std_mean(hidden.float(), dim=0, correction=0)
        # a feature that hardly varied in training must not explode where it varies later
        scale = std.clamp(min=max(0.01 * float(std.median()), 1e-6))
        self.feature_scale.copy_(scale)
        self.feature_mean.copy_(mean - 0.5 * scale)

    @property
    def has_posterior(self) -> bool:
        """Whether `posterior` can be told."""
        return self.config.posterior_rank is not None

    @torch.no_grad()
    def set_posterior(
        self,
        center: Tensor,
        scale: Tensor,
        basis: Tensor,
        offsets: Tensor,
        variances: Tensor,
        rest: Tensor,
        intercept: Tensor,
        weights: Tensor,
        mean: Tensor,
        noise: Tensor,
    ):
        """
        The posterior over the means that the ratings leave open, of a Bayesian linear regression on hidden states.

        Intervals of a former one are forgotten.

        Args:
            center, scale (`Tensor`): (H,) each, of the hidden states that were rated; z = (h - center) / scale.
            basis (`Tensor`): (H, r) orthonormal columns.
            offsets (`Tensor`): (n, r) where in the basis an attribute is known best: the mean z of the rows that
                rate it.
            variances (`Tensor`): (n, r) of the means along each direction, in squared units of the ratings; or
                (n, r, r) covariances between them, where attributes are rated by different rows.
            rest (`Tensor`): (n,) along every direction outside of the basis; same unit.
            intercept (`Tensor`): (n,) of the mean rating; same unit.
            weights (`Tensor`): (n, r) posterior mean of the regression in the basis, in units of the ratings.
            mean (`Tensor`): (n,) mean rating where z is 0.
            noise (`Tensor`): (n,) variance of one rating around its mean, in squared units of the ratings.

        Raises:
            ValueError: shapes that do not fit the head, or values that are negative or not finite.
        """
        tensors = (center, scale, basis, offsets, variances, rest, intercept, weights, mean, noise)
        rank, correlated = basis.shape[-1], variances.ndim == 3
        for name, tensor, shape in zip(POSTERIOR, tensors, self._posterior_shapes(rank, correlated), strict=True):
            if tuple(tensor.shape) != shape:
                raise ValueError(f"`{name}` must be {shape}, got {tuple(tensor.shape)}.")
            is_signed = name in SIGNED or (correlated and tensor is variances)
            least = 0.0 if is_signed else float(tensor.min())
            if not torch.isfinite(tensor).all() or least < 0:
                raise ValueError(f"`{name}` holds numbers that are negative or not finite.")
        self.config.posterior_rank, self.config.posterior_correlated = rank, correlated
        self.config.interval_factors = None
        for name, tensor in zip(POSTERIOR, tensors, strict=True):
            self.register_buffer(name, tensor.to(self.feature_mean.device, torch.float32, copy=True))

    def expect_posterior(self, rank: int | None, correlated: bool = False):
        """Makes room for a posterior of this rank, which is loaded into it; or for none."""
        self.config.posterior_rank, self.config.posterior_correlated = rank, correlated
        for name in POSTERIOR:
            self._buffers.pop(name, None)
        if rank is not None:
            for name, shape in zip(POSTERIOR, self._posterior_shapes(rank, correlated), strict=True):
                self.register_buffer(name, torch.zeros(shape, dtype=torch.float32))

    def drop_posterior(self):
        """Forgets the posterior: of weights that changed since it was fitted."""
        self.config.interval_factors = None
        self.expect_posterior(None)

    def posterior_features(self, hidden: Tensor) -> Tensor:
        """
        (..., r + 1) of hidden states (..., H): z in the basis, and the length of what lies outside of it. All that the
        posterior reads, and all that it takes to compare two answers.
        """
        z = (
            hidden.to(self.posterior_center.device).float() - self.posterior_center.float()
        ) / self.posterior_scale.float()
        with torch.autocast(z.device.type, enabled=False):
            inside = z @ self.posterior_basis.float()  # (..., r)
            outside = (z.square().sum(-1) - inside.square().sum(-1)).clamp(min=0).sqrt()
        return torch.cat([inside, outside[..., None]], dim=-1)

    def posterior(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """
        What the posterior tells of hidden states (..., H): the means of their ratings (..., n), and the variances of
        these means (..., n) that the ratings leave open, (z - z_k)' S_k (z - z_k); higher = less known.
        """
        features = self.posterior_features(hidden)
        with torch.autocast(features.device.type, enabled=False):
            inside, outside = features[..., :-1], features[..., -1:]
            means = self.posterior_mean.float() + inside @ self.posterior_weights.float().mT
            variances, offsets = self.posterior_variances.float(), self.posterior_offsets.float()
            if self.config.posterior_correlated:
                apart = inside[..., None, :] - offsets  # (..., n, r)
                unknown = torch.einsum("...ki,kij,...kj->...k", apart, variances, apart)
            else:  # the square of a difference, written out: no (..., n, r) is made
                shifted = offsets * variances
                unknown = inside.square() @ variances.mT - 2 * inside @ shifted.mT + (offsets * shifted).sum(-1)
            outside = outside.square() * self.posterior_rest.float()
            return means, unknown.clamp(min=0) + outside + self.posterior_intercept.float()

    def intervals(self, means: Tensor, variances: Tensor) -> Tensor:
        """
        Lower and upper ends (..., L, n, 2) of the intervals of `config.interval_factors`, levels in their order:
        mean -+ factor sqrt(noise + variance), of what `posterior` gave. Where the scale of an attribute is known
        (`config.attribute_scales`), they end where it does: no rating lies beyond, so that each holds as many.
        """
        factors = means.new_tensor(list((self.config.interval_factors or {}).values()))  # (L, n)
        half = factors * (self.posterior_noise.float() + variances).sqrt()[..., None, :]
        ends = torch.stack([means[..., None, :] - half, means[..., None, :] + half], dim=-1)
        scales, unbounded = self.config.attribute_scales or {}, (-float("inf"), float("inf"))
        bounds = [tuple(scales.get(name, unbounded)[:2]) for name in self.config.attributes]
        low, high = means.new_tensor(bounds).unbind(-1)  # (n,) each
        return ends.clamp(low[:, None], high[:, None])

    def distribution(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means, standard deviations and gating weights, each (..., n), of hidden states (..., H)."""
        config = self.config
        # the buffers are where the head computes also while its offloaded weights are on no device
        hidden = hidden.to(self.feature_mean.device).float()
        hidden = (hidden - self.feature_mean.float()) / self.feature_scale.float()
        means, log_stds = self.value(hidden).chunk(2, dim=-1)  # (mu, log sigma) = W h
        if config.log_std_bounds is not None:
            log_stds = bend(log_stds, *config.log_std_bounds)
        label_std = self.label_std.float()
        means = self.label_mean.float() + label_std * means
        stds = label_std * log_stds.exp()
        if self.gate is None:
            return means, stds, means.new_tensor(config.reward_weights).expand_as(means)
        return means, stds, self.gate(hidden) / label_std  # w = MLP(h)

    def forward(
        self, hidden: Tensor, *, return_distribution: bool = False, return_posterior: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """
        Reward (..., 1) of hidden states (..., H): what generic tools call `model.score(hidden)` for.

        Args:
            hidden (`Tensor` of shape `(..., H)`): pooled hidden states.
            return_distribution (`bool`, *optional*, defaults to `False`): gives what `distribution` does instead. The
                model asks this way, for hooks that load an offloaded head run around a module's call alone.
            return_posterior (`bool`, *optional*, defaults to `False`): gives what `posterior` does.
        """
        if return_posterior:
            return self.posterior(hidden)
        means, stds, weights = self.distribution(hidden)
        if return_distribution:
            return means, stds, weights
        reward, _ = gated_reward(means, stds, weights)
        return reward.unsqueeze(-1)


def take_posterior(score: nn.Module, state: dict[str, Any], prefix: str):
    """
    Makes room for the posterior that an adapter's head was saved with, and puts it into the state for that head. Peft
    loads a head into a copy of the base's, and leaves out, without a word, what has no place there.

    Args:
        score (`nn.Module`): a [`URMHead`], or what peft made of one. state (`dict`): that is about to be loaded.
        prefix (`str`): of the keys of `score`.
    """
    if not all(f"{prefix}{name}" in state for name in POSTERIOR):
        return
    for adapter, head in getattr(score, "modules_to_save", {}).items():
        own = f"{prefix}modules_to_save.{adapter}."
        if f"{own}value.weight" not in state or head.has_posterior:
            continue
        basis, variances = state[f"{prefix}posterior_basis"], state[f"{prefix}posterior_variances"]
        head.expect_posterior(basis.shape[-1], variances.ndim == 3)
        head.to(head.feature_mean.device)
        state |= {f"{own}{name}": state[f"{prefix}{name}"] for name in POSTERIOR}
        logger.warning("The adapter's posterior is loaded, but no intervals: `urm_hf.load_adapter` gives both.")
