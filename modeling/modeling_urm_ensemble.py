"""
URME: an ensemble of URMs whose disagreement shows what they do not know. This file travels with ensemble repositories.

Shapes: M members, B conversations, T tokens, n attributes. The member axis comes first and is never folded into B.
"""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from .configuration_urm_ensemble import URMEnsembleConfig
from .distributions_urm import max_covariance_norm, max_gap, total_variance
from .modeling_urm import URMForRewardModeling


@dataclass
class URMEnsembleOutput(ModelOutput):
    """
    Args:
        logits (`(B, 1)`, float32): mean of the members' rewards; higher is better.
        rewards (`(M, B)`): each member's reward.
        reward_std (`(B,)`): root of the total variance of the reward over members, in its unit; higher = less sure.
        reward_gap (`(B,)`): max_ij |r_i - r_j|, Eq. 7, in the unit of the reward; higher = less known.
        covariance_norm (`(B,)`): max_i ||Sigma_i||_F, Eq. 8, in squared units of the ratings; higher = less sure.
        attribute_gap (`(B, n)`): Eq. 7 on each attribute's means, on the scale of the ratings.
        attribute_means, attribute_stds, gating_weights (`(M, B, n)`): each member's distribution and gate.
        aleatoric_variance (`(B, n)`): mean over members of sigma^2: noise of the ratings.
        epistemic_variance (`(B, n)`): population variance over members of mu: what training data did not settle.
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


class NonFiniteReward(ValueError):
    """A reward is NaN or infinite; `rows` are its rows in the batch."""

    def __init__(self, message: str, rows: list[int]):
        super().__init__(message)
        self.rows = rows


class URMEnsemble(PreTrainedModel):
    """
    M URMs as one reward model.

    ```python
    ensemble = URMEnsemble.from_pretrained(["org/urm-a", "org/urm-b", "org/urm-c"])
    ```
    """

    config_class = URMEnsembleConfig
    base_model_prefix = "ensemble"
    _auto_class = "AutoModelForSequenceClassification"
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: URMEnsembleConfig, members: list[URMForRewardModeling]):
        super().__init__(config)
        _check_alike(config.members, members)
        self.members = nn.ModuleList(members)
        config.attributes = list(members[0].config.attributes)
        config.pad_token_id, config.eos_token_id = members[0].config.pad_token_id, members[0].config.eos_token_id
        limits = [m.config.max_position_embeddings for m in members if m.config.max_position_embeddings is not None]
        config.max_position_embeddings = min(limits, default=None)
        self.post_init()

    def _init_weights(self, module: nn.Module):
        """Members come with their weights; there is nothing to initialise."""

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        pooled_hidden: Tensor | None = None,
        return_dict: bool | None = None,
        **kwargs,
    ) -> URMEnsembleOutput:
        """
        Scores B conversations with every member.

        Args:
            input_ids, attention_mask: as in [`URMForRewardModeling.forward`].
            pooled_hidden (`(B, H)`, *optional*): pooled hidden states of a backbone that all members share.

        Raises:
            NonFiniteReward: a member gave a reward that is not finite.
        """
        outputs = [
            member(input_ids=input_ids, attention_mask=attention_mask, pooled_hidden=pooled_hidden, **kwargs)
            for member in self.members
        ]
        output = combine([output.logits.squeeze(-1) for output in outputs], outputs, self.config.members)
        return output if return_dict is not False else output.to_tuple()

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, revisions=None, config=None, **kwargs):
        """
        Loads the members.

        Args:
            pretrained_model_name_or_path: a list of at least two repositories or folders of URMs; or one repository
                or folder that `save_pretrained` of an ensemble wrote.
            revisions (`list[str | None]`, *optional*): pins each member of a list.
            kwargs: `dtype`, `device_map`, `token`, `cache_dir`, ... for every member. Members are always loaded with
                the classes beside this file: no further code is run, whatever `trust_remote_code` says.
        """
        output_loading_info = kwargs.pop("output_loading_info", False)
        for name in ("trust_remote_code", "num_labels", "code_revision"):
            kwargs.pop(name, None)
        revision, subfolder = kwargs.pop("revision", None), kwargs.pop("subfolder", "")
        if isinstance(pretrained_model_name_or_path, (list, tuple)):
            names = [os.path.abspath(m) if os.path.isdir(m) else str(m) for m in pretrained_model_name_or_path]
            config = URMEnsembleConfig(members=names, revisions=revisions)
        elif not isinstance(config, URMEnsembleConfig):
            hub = {name: kwargs[name] for name in ("token", "cache_dir", "local_files_only") if name in kwargs}
            config = URMEnsembleConfig.from_pretrained(
                pretrained_model_name_or_path, revision=revision, subfolder=subfolder, **hub
            )
        members = []
        for name, pin in zip(config.members, config.revisions, strict=True):
            pinned = {"revision": pin} if pin else {}
            try:
                members.append(URMForRewardModeling.from_pretrained(name, *args, **pinned, **kwargs))
            except ValueError as error:
                raise ValueError(f"Member {name}: {error}") from error
        ensemble = cls(config, members).eval()
        # generic tools (TRL, pipelines) load the tokenizer from here: that of the first member
        ensemble.config.name_or_path = config.members[0]
        return (ensemble, {"missing_keys": [], "unexpected_keys": []}) if output_loading_info else ensemble

    def save_pretrained(self, save_directory, *args, **kwargs):
        """Writes a small folder that only names the members; `from_pretrained` and AutoModel load it."""
        self.config.architectures = [type(self).__name__]
        self.config.save_pretrained(save_directory)
        from transformers.dynamic_module_utils import custom_object_save

        custom_object_save(self, save_directory, config=self.config)


def combine(rewards: list[Tensor], outputs: list, names: list[str]) -> URMEnsembleOutput:
    """The ensemble's output from its members' rewards (B,) and outputs."""
    for name, reward in zip(names, rewards, strict=True):
        if not torch.compiler.is_compiling() and not torch.isfinite(reward).all():
            rows = (~torch.isfinite(reward)).nonzero().flatten().tolist()
            raise NonFiniteReward(f"Member {name} gave rewards that are not finite in rows {rows[:8]}.", rows)
    device = rewards[0].device
    all_rewards = torch.stack([reward.to(device) for reward in rewards])
    means, stds, weights, reward_stds = (
        torch.stack([output[field].to(device) for output in outputs])
        for field in ("attribute_means", "attribute_stds", "gating_weights", "reward_std")
    )
    aleatoric, epistemic = total_variance(means, stds)
    reward_variance = torch.stack(total_variance(all_rewards, reward_stds)).sum(0)
    return URMEnsembleOutput(
        logits=all_rewards.mean(0).unsqueeze(-1),
        rewards=all_rewards,
        reward_std=reward_variance.sqrt(),
        reward_gap=max_gap(all_rewards),
        covariance_norm=max_covariance_norm(stds),
        attribute_gap=max_gap(means),
        attribute_means=means,
        attribute_stds=stds,
        gating_weights=weights,
        aleatoric_variance=aleatoric,
        epistemic_variance=epistemic,
    )


def _check_alike(names: list[str], members: list[URMForRewardModeling]):
    """Members must predict the same attributes, in one order, with different heads."""
    if len(members) < 2:
        raise ValueError(f"An ensemble needs at least two members, got {len(members)}.")
    first = members[0]
    for name, member in zip(names[1:], members[1:], strict=True):
        for field in ("attributes", "vocab_size", "pad_token_id"):
            ours, theirs = getattr(first.config, field), getattr(member.config, field)
            if ours != theirs:
                raise ValueError(f"Members differ in {field}: {names[0]} has {ours}, {name} has {theirs}.")
    for i in range(len(members)):
        for j in range(i):
            if _equal_heads(members[i].score, members[j].score):
                raise ValueError(
                    f"Members {names[j]} and {names[i]} have equal heads: their disagreement would always be zero. "
                    "Train them with different seeds."
                )


def _equal_heads(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(
        ours[key].shape == theirs[key].shape and torch.equal(ours[key].cpu(), theirs[key].cpu()) for key in ours
    )
