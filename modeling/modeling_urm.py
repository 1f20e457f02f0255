"""
Uncertainty-aware reward model (URM). This file travels with every checkpoint: torch and transformers only.

Source: "Uncertainty-aware Reward Model: Teaching Reward Models to Know What is Unknown" (Lou et al., 2024,
arXiv:2410.00847). Shapes: B conversations, T tokens, H hidden size, n attributes, G gating width.

Where this differs from the paper:
1. Pooling is at the rightmost 1 of the attention mask, never found by a search for the padding token.
2. Head, gate and rewards are float32 whatever the backbone's dtype (the paper loads all in float16).
3. The head may read standardised features, and predict and weigh in units of the ratings' spread (`URMHead`,
   `URMConfig.label_stds`), so that it learns as well from ratings of 0..100 as from 0..4; by default both are the
   identity.
4. log sigma bends beyond `URMConfig.log_std_bounds`. Models trained by a likelihood stay far inside the default ones;
   Eq. 5, which drives sigma to 0, reaches the lower one.
5. A fresh gate starts near equal weights 1/n: until it is trained, the reward is about the mean attribute.
"""

import copy
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.utils import ModelOutput

from .backbone_urm import find_weights, load_backbone, read_config
from .base_urm import BASE_WEIGHTS, SavesHeadsAlone, load_heads
from .card_urm import write_short_card
from .checks_urm import check_size, load_alone
from .configuration_urm import URMConfig, _per_attribute
from .distributions_urm import gated_reward, squared_error
from .fingerprint_urm import compute_fingerprint  # noqa: F401  (transformers 4 fetches only what this file imports)
from .head_urm import Float32Linear, URMHead, take_posterior
from .hub_place_urm import HubPlace


@dataclass
class URMOutput(ModelOutput):
    """
    Args:
        logits (`(B, 1)`, float32): reward r = sum_k w_k mu_k; higher is better, comparable within a prompt.
        attribute_means (`(B, n)`): mu, on the scale of the ratings.
        attribute_stds (`(B, n)`): sigma, same unit; higher = less sure. Aleatoric: the spread of human ratings.
        gating_weights (`(B, n)`): w, may be negative, do not sum to 1.
        reward_std (`(B,)`): sqrt(sum_k w_k^2 sigma_k^2), in the unit of the reward; higher = less sure.
        attribute_epistemic_stds (`(B, n)`): root of the variance of mu that the rated rows leave open, on the scale of
            the ratings; higher = less like what was rated. Only of a model with a posterior.
        reward_epistemic_std (`(B,)`): sqrt(sum_k w_k^2 of these squared), in the unit of the reward. Likewise.
        attribute_intervals (`(B, L, n, 2)`): lower and upper ends of what holds a rating in the shares of cases that
            the L levels of `config.interval_factors` name, around the posterior's own mean. Of a calibrated model.
        pooled_hidden (`(B, H)`): the backbone's last hidden state that all of the above is computed from.
        loss (scalar): mean squared error of `logits`, only where `labels` were given.
        hidden_states (tuple of `(B, T, H)`): the backbone's, embeddings first; only if asked for.
        attentions (tuple of `(B, heads, T, T)`): the backbone's; only if asked for.
    """

    loss: Tensor | None = None  # first, as in every model of transformers: `output[0]` of a step with labels
    logits: Tensor | None = None
    attribute_means: Tensor | None = None
    attribute_stds: Tensor | None = None
    gating_weights: Tensor | None = None
    reward_std: Tensor | None = None
    pooled_hidden: Tensor | None = None
    attribute_epistemic_stds: Tensor | None = None
    reward_epistemic_std: Tensor | None = None
    attribute_intervals: Tensor | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


def read_head(head: Any, hidden: Tensor) -> dict[str, Any]:
    """
    The fields of [`URMOutput`] that a [`URMHead`] computes of pooled hidden states (B, H).

    The head is called as a module, for hooks that load an offloaded one run around its call alone.
    """
    means, stds, weights = head(hidden, return_distribution=True)
    reward, reward_std = gated_reward(means, stds, weights)
    numbers = {
        "logits": reward.unsqueeze(-1),
        "attribute_means": means,
        "attribute_stds": stds,
        "gating_weights": weights,
        "reward_std": reward_std,
    }
    if head.has_posterior:
        expected, variances = head(hidden, return_posterior=True)
        numbers["attribute_epistemic_stds"] = variances.sqrt()
        numbers["reward_epistemic_std"] = gated_reward(means, variances.sqrt(), weights)[1]
        if head.config.interval_factors is not None:
            numbers["attribute_intervals"] = head.intervals(expected, variances)
    return numbers


class URMForRewardModeling(SavesHeadsAlone, PreTrainedModel):
    """
    A decoder (`model`) with an uncertainty-aware head (`score`); to what reads `logits`, a scalar reward model.

    ```python
    model = URMForRewardModeling.from_backbone("Qwen/Qwen3-0.6B", attributes=["helpfulness", "clarity"])
    ```
    """

    config_class = URMConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _auto_class = "AutoModelForSequenceClassification"  # makes save_pretrained copy these files
    _keep_in_fp32_modules_strict = ["score"]  # whatever the dtype of the rest
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flash_attn_2 = True  # read by transformers 4
    _supports_flex_attn = True
    _supports_attention_backend = True
    accepts_loss_kwargs = False  # the loss is the mean of its own rows; Trainer averages accumulated steps itself

    def __init__(self, config: URMConfig, backbone: PreTrainedModel | None = None):
        super().__init__(config)
        if backbone is None:
            self.model = AutoModel.from_config(config.backbone_config)
        else:
            self.model = backbone
            config.backbone_config._attn_implementation = backbone.config._attn_implementation  # `from_config` does so
        self.score = URMHead(config)
        self.post_init()
        # Quantizers ask this list alone what they must leave as it is. It is of the instance: transformers 4 takes no
        # dotted name in the class's, and `value` or `gate` would keep parts of some backbones too.
        kept: set[str] = set(self._keep_in_fp32_modules or ())  # type: ignore[has-type]
        self._keep_in_fp32_modules = kept | {"score.value", "score.gate"}

    def _init_weights(self, module: nn.Module):
        if isinstance(module, URMHead):
            module.reset_parameters()
        elif module is not self and not isinstance(module, Float32Linear):
            self.model._init_weights(module)

    def initialize_weights(self):
        """
        As in transformers; the backbone first, by its own rules. As a part of this class it would be taken for custom
        code, of which transformers leaves out modules without weights of their own, though some of them compute
        buffers there that are not saved (Falcon-H1).
        """
        self.model.initialize_weights()
        super().initialize_weights()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any):
        take_posterior(self.score, state_dict, f"{prefix}score.")
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module):
        self.model.set_input_embeddings(value)

    def fix_reward_weights(self, weights: list[float]) -> None:
        """Replaces the gate by fixed weights, one an attribute: r = sum_k weights_k mu_k for every conversation."""
        self.config.reward_weights = _per_attribute("weights", weights, len(self.config.attributes))
        self.score.gate = None

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        pooled_hidden: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        output_hidden_states: bool | list[int] | None = None,
        output_attentions: bool | list[int] | None = None,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> URMOutput:
        """
        Scores B tokenised conversations, padded on either side; or B hidden states that were pooled before.

        Args:
            input_ids (`(B, T)`): token ids. `inputs_embeds` (`(B, T, H)`) may stand in for them.
            attention_mask (`(B, T)`): 1 for real tokens. The rightmost 1 of a row is where its reward is read.
            position_ids (`(B, T)`, *optional*): by default counted from the first real token of each row.
            pooled_hidden (`(B, H)`, *optional*): a former output's field of that name; the backbone does not run.
            labels (`(B,)` or `(B, 1)`, *optional*): rewards to learn, as of a classifier with one label: the output's
                `loss` is their mean squared error. The trainers of `urm_hf` have losses of their own.
            use_cache (`bool`, *optional*): `False` or nothing: a reward is read once, so no cache is kept.
            output_hidden_states, output_attentions (`bool` or `list[int]`, *optional*): what else of the backbone's
                the output holds, of all layers or of these. Default to the config's.
            return_dict (`bool`, *optional*): `False` gives a tuple of what the output holds.
            kwargs: arguments of the backbone. `margin` and `num_items_in_batch`, by which trainers weigh a loss of
                their own, are let through and not used.

        Raises:
            ValueError: no mask where the padding could only be guessed, a row without any real token, `use_cache`, or
                states of the backbone asked of `pooled_hidden`.
        """
        if use_cache:
            raise ValueError("`use_cache=True`: a reward is read once, a URM keeps no cache. Pass `use_cache=False`.")
        for name in ("margin", "num_items_in_batch"):  # Trainer and TRL put them among a model's inputs
            kwargs.pop(name, None)
        kwargs |= {
            "output_hidden_states": self._choose("output_hidden_states", output_hidden_states),
            "output_attentions": self._choose("output_attentions", output_attentions),
        }
        states: dict[str, Any] = {}  # no key at all where nothing was asked for: the output stays as short as it was
        if pooled_hidden is None:
            pooled_hidden, states = self._pool(input_ids, attention_mask, position_ids, inputs_embeds, **kwargs)
        elif output_hidden_states or output_attentions:
            raise ValueError("`pooled_hidden` stands for the backbone's run: it has no other hidden states to give.")
        numbers = read_head(self.score, pooled_hidden)
        loss = None if labels is None else squared_error(numbers["logits"].squeeze(-1), labels)
        output = URMOutput(loss=loss, **numbers, pooled_hidden=pooled_hidden, **states)
        return output if return_dict is not False else output.to_tuple()

    def _choose(self, name: str, value: bool | list[int] | None) -> bool | list[int] | None:
        """An argument of this call, or else what the config says."""
        return getattr(self.config, name) if value is None else value

    def pool(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """
        The backbone's last hidden state at the last real token of each conversation, (B, H) in its own dtype.

        Args:
            input_ids, attention_mask, position_ids, inputs_embeds, kwargs: as in `forward`.
        """
        return self._pool(input_ids, attention_mask, position_ids, inputs_embeds, **kwargs)[0]

    def _pool(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        inputs_embeds: Tensor | None,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """What `pool` gives, and the backbone's `hidden_states` and `attentions` where they were asked for."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("Pass exactly one of `input_ids` and `inputs_embeds`.")
        if attention_mask is None:
            attention_mask = self._mask_of_unpadded(input_ids)
        positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
        last = (attention_mask.bool() * (positions + 1)).amax(-1) - 1  # rightmost 1; -1 in a row without any
        if not torch.compiler.is_compiling() and (last < 0).any():
            row = int((last < 0).nonzero()[0])
            raise ValueError(f"`attention_mask` has no 1 in row {row}: an empty conversation has no reward.")
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "inputs_embeds": inputs_embeds}
        if "position_ids" in inspect.signature(self.model.forward).parameters:
            # counted from the first real token, so that padding on the left changes nothing
            left = (attention_mask.long().cumsum(-1) - 1).clamp(min=0)
            inputs["position_ids"] = left if position_ids is None else position_ids
        output = self.model(**inputs, **kwargs, use_cache=False, return_dict=True)
        hidden = output.last_hidden_state
        # gathered rather than indexed by arange(B): an exported graph keeps the batch size open
        rows = last.to(hidden.device)[:, None, None].expand(-1, 1, hidden.shape[-1])
        states = {name: getattr(output, name, None) or None for name in ("hidden_states", "attentions")}
        return hidden.gather(1, rows).squeeze(1), states

    def _mask_of_unpadded(self, input_ids: Tensor | None) -> Tensor:
        """A mask where none was passed: only if no token can be taken for padding by mistake."""
        pad, eos = self.config.pad_token_id, self.config.eos_token_id
        if input_ids is None:
            raise ValueError("`attention_mask` is missing: with `inputs_embeds` padding cannot be told from tokens.")
        if pad is None:
            if len(input_ids) > 1:
                raise ValueError(
                    "`attention_mask` is missing and the model has no `pad_token_id`: pass the tokenizer's mask."
                )
            return torch.ones_like(input_ids)
        if pad in (eos if isinstance(eos, list) else [eos]):
            raise ValueError(
                f"`attention_mask` is missing and `pad_token_id` equals `eos_token_id` ({pad}): the end of a "
                "conversation cannot be told from padding. Pass the tokenizer's attention mask."
            )
        return input_ids.ne(pad).long()

    @classmethod
    def from_backbone(
        cls,
        pretrained_model_name_or_path: str | PreTrainedModel,
        attributes: list[str] | None = None,
        *,
        gating_hidden_size: int | None = None,
        reward_weights: list[float] | None = None,
        attribute_scales: dict[str, list[float]] | None = None,
        log_std_bounds: Sequence[float] | None = (-4.0, 4.0),
        **kwargs,
    ) -> "URMForRewardModeling":
        """
        A URM with fresh heads on a pretrained causal LM or scalar reward model.

        Weights that are not the decoder's (an `lm_head`, a reward model's `score`) are discarded and named in the log.

        Args:
            pretrained_model_name_or_path: a Hub repository or folder that `AutoModel` loads; an adapter (LoRA), which
                is merged into its model (needs peft); or a decoder that is loaded already, then shared, not copied.
            attributes, gating_hidden_size, reward_weights, attribute_scales, log_std_bounds: see [`URMConfig`].
            kwargs: passed to `AutoModel.from_pretrained` (`dtype`, `device_map`, `revision`, `attn_implementation`,
                `trust_remote_code`, `quantization_config`, ...).

        Raises:
            ValueError: the checkpoint lacks weights of the decoder, or is itself a URM or an adapter of one.
        """
        head = {
            "attributes": attributes,
            "gating_hidden_size": gating_hidden_size,
            "reward_weights": reward_weights,
            "attribute_scales": attribute_scales,
            "log_std_bounds": log_std_bounds,
        }
        if isinstance(pretrained_model_name_or_path, PreTrainedModel):
            if kwargs:
                raise ValueError(f"{sorted(kwargs)} are for loading a backbone by name, but it is loaded already.")
            return cls._around(pretrained_model_name_or_path, **head)
        name = str(pretrained_model_name_or_path)
        model = cls._around(load_backbone(name, **kwargs), **head)
        model.config.name_or_path = name  # of an adapter, where the backbone's config names what it was put on
        return model

    @classmethod
    def _around(cls, backbone: PreTrainedModel, **head) -> "URMForRewardModeling":
        """Fresh heads around a loaded backbone, which is neither copied nor built a second time."""
        if backbone.config.model_type == URMConfig.model_type:
            raise ValueError(
                f"{backbone.config.name_or_path} is a URM already: load it with `from_pretrained`, or take fresh "
                "heads on the backbone it was trained from."
            )
        if backbone.base_model is not backbone:
            raise ValueError(f"{type(backbone).__name__} is not a bare decoder: pass its `base_model`.")
        config = URMConfig(backbone_config=copy.deepcopy(backbone.config), dtype=backbone.dtype, **head)
        with torch.device("meta"):  # where transformers draws no weights: the backbone has its own
            model = cls(config, backbone)
        model.score = URMHead(config)
        model.score.reset_parameters()
        model.score.to(backbone.device)
        model.config.name_or_path = backbone.config.name_or_path
        return model.eval()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *args: Any,
        output_loading_info: bool = False,
        **kwargs: Any,
    ) -> "URMForRewardModeling":
        """
        As in transformers, but a missing, unexpected or misshapen key is an error, never a warning, and no pickled
        weights are loaded. Of a checkpoint of heads alone, the backbone is loaded from where its config says.
        """
        name, found = str(pretrained_model_name_or_path), {}
        if pretrained_model_name_or_path is not None:  # as in transformers, None stands for a `state_dict` in memory
            place = HubPlace.read(kwargs)
            found = read_config(name, place)
            if not found.get(BASE_WEIGHTS):
                check_size(found, find_weights(name, place), name)
        with load_alone(name):
            if found.get(BASE_WEIGHTS):
                model, info = load_heads(cls, name, kwargs)
            else:
                # misshapen tensors are let through here, so that the error below can name them
                kwargs |= {"use_safetensors": True, "ignore_mismatched_sizes": True, "output_loading_info": True}
                model, info = super().from_pretrained(pretrained_model_name_or_path, *args, **kwargs)
        wrong = {kind: sorted(info.get(f"{kind}_keys", [])) for kind in ("missing", "unexpected")}
        wrong["misshapen"] = [
            # transformers 4 tells the names alone
            item if isinstance(item, str) else f"{item[0]} is {list(item[1])} instead of {list(item[2])}"
            for item in info["mismatched_keys"]
        ]
        if any(wrong.values()):
            listed = ", ".join(f"{name} {keys[:8]}" for name, keys in wrong.items())
            if all(key.startswith("score.posterior_") for key in sum(wrong.values(), [])):
                listed += " (a posterior of another version of these files: fit it again on a model without one)"
            raise ValueError(
                f"The weights of {pretrained_model_name_or_path} do not fit its config: {listed}. The checkpoint is "
                "incomplete or of another layout; nothing was guessed. Save or download it again."
            )
        return (model, info) if output_loading_info else model  # type: ignore[return-value]  # as in transformers

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """
        As in transformers; what FSDP made of this class is saved as this class, with these files. Heads on a frozen
        backbone are saved alone where the config names it (`refer_to_base`).
        """
        if self.config.base_weights is not None:
            kwargs["state_dict"] = self.choose_state(kwargs.get("state_dict") or self.state_dict())
        made = type(self)
        if made.__module__ != URMForRewardModeling.__module__ and made.__name__.startswith("FSDP"):
            # PyTorch gives a sharded module a class of its own, whose sources would be saved as the model's code
            made.__module__, made.__name__ = URMForRewardModeling.__module__, URMForRewardModeling.__name__
        super().save_pretrained(save_directory, *args, **kwargs)

    def _upload_modified_files(self, working_dir, *args, **kwargs):
        """The last step of `push_to_hub`, where the folder holds an empty form as its card."""
        write_short_card(working_dir, self.config, self.model_tags)
        return super()._upload_modified_files(working_dir, *args, **kwargs)
