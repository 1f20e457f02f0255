"""Configuration of an uncertainty-aware reward model (URM). This file travels with every checkpoint."""

import sys
from collections.abc import Sequence
from math import isfinite
from numbers import Real
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from .checks_urm import check_config

HELPSTEER2_ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]

BASE_FIELDS = ("name", "fingerprint")  # of `base_weights`, whose commit is None where it is a folder
MOST_ATTRIBUTES = 1000  # far beyond any scale that people rate by

# Checkpoints of the paper's authors, and of SGLang: a Llama classifier to transformers, which ignores their gate.
PUBLISHED_ARCHITECTURE = "LlamaForSequenceClassificationWithNormal_Weights"

# Sizes of the backbone that generic tools read from the top of config.json: PEFT for virtual tokens, counters of
# parameters. They are written there for others; this class reads the backbone's config alone, so none goes stale.
BACKBONE_SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "vocab_size")

POSTERIOR_FIELDS = ("posterior_rank", "posterior_correlated", "interval_factors")
AUTO_MAP = {
    "AutoConfig": "configuration_urm.URMConfig",
    "AutoModel": "modeling_urm.URMForRewardModeling",
    "AutoModelForSequenceClassification": "modeling_urm.URMForRewardModeling",
}


def tell_peft_targets(backbone_type: str) -> None:
    """
    Has PEFT adapt by default what it adapts in the backbone's own class.

    PEFT looks the default `target_modules` of a method up by the type that `config.to_dict()` tells, right after it
    has asked for it, in one table for each method. So the backbone's entries are put there under "urm" whenever it is
    asked for: URMs on several backbones do not disturb one another.

    Args:
        backbone_type (`str`): `model_type` of the backbone, such as "llama".
    """
    constants = sys.modules.get("peft.utils.constants")  # nobody adapts anything before it is imported
    for name, table in ({} if constants is None else vars(constants)).items():
        if name.startswith("TRANSFORMERS_MODELS_TO_") and name.endswith("_MODULES_MAPPING"):
            table.pop(URMConfig.model_type, None)
            if backbone_type in table:
                table[URMConfig.model_type] = table[backbone_type]


class URMConfig(PretrainedConfig):
    """
    Describes the backbone, the rated attributes and the head of a [`URMForRewardModeling`].

    Args:
        backbone_config (`PretrainedConfig` or `dict`):
            Configuration of the decoder whose last hidden state is read. A dict needs `model_type`.
        attributes (`list[str]`, *optional*, defaults to the five of HelpSteer2):
            Names of the n human-rated attributes, in the order of the head's rows.
        gating_hidden_size (`int`, *optional*):
            Width G of the gating MLP. Defaults to the backbone's hidden size H, as in the paper.
        reward_weights (`list[float]`, *optional*):
            Fixed prior weights, one an attribute, instead of a gate: the model then has no gating parameters.
        attribute_scales (`dict[str, list]`, *optional*):
            `{attribute: [min, max]}` or `[min, max, step]`: the scale on which an attribute was rated, where known.
        label_means, label_stds (`list[float]`, *optional*, default to 0 and 1):
            Location and scale of the training ratings. The head predicts in these units and the model answers on the
            rating scale: mean = label_mean + label_std * (W h), std = label_std * exp(...), gating weight =
            MLP(h) / label_std. With the defaults the head is the paper's.
        log_std_bounds (`[float, float]` or `None`, defaults to `[-4, 4]`):
            Between them (in units of `label_stds`) the log standard deviation is W h, as in the paper; beyond them it
            bends smoothly towards a limit 1 further out. `None` never bends it.
        attribute_loss (`str`, *optional*):
            The loss that trained the attribute head. A std of a model trained by "regression" or "deterministic" is
            not the spread of human ratings.
        training (`dict`, *optional*):
            How the heads came to be (seed, data, steps); only for people and for checks of ensembles.
        posterior_rank (`int`, *optional*):
            Directions that the head's posterior over the means keeps (`URMHead.set_posterior`). None: it has none.
        posterior_correlated (`bool`, defaults to `False`):
            Whether what is not known along these directions is correlated, as where attributes are rated by different
            rows: the posterior then holds a matrix for each attribute.
        base_weights (`dict`, *optional*):
            `name`, `commit` and `fingerprint` of the backbone, where the checkpoint holds heads alone: of a model that
            was trained on a frozen backbone. None: it holds the backbone too.
        interval_factors (`dict[str, list[float]]`, *optional*):
            By level, such as "0.9": for each attribute, how many standard deviations of the posterior's prediction
            hold so many of the ratings. None: `attribute_intervals` are not given.

    `num_labels` is 1 whatever n is: to TRL, pipelines and servers a URM is a scalar reward model.
    """

    model_type = "urm"
    sub_configs = {"backbone_config": AutoConfig}
    _auto_class = "AutoConfig"
    has_no_defaults_at_init = True  # there is no default backbone: tells transformers not to call `URMConfig()`

    def __init__(
        self,
        backbone_config: PretrainedConfig | dict[str, Any] | None = None,
        attributes: list[str] | None = None,
        gating_hidden_size: int | None = None,
        reward_weights: list[float] | None = None,
        attribute_scales: dict[str, list[float]] | None = None,
        label_means: list[float] | None = None,
        label_stds: list[float] | None = None,
        log_std_bounds: Sequence[float] | None = (-4.0, 4.0),
        attribute_loss: str | None = None,
        training: dict[str, Any] | None = None,
        posterior_rank: int | None = None,
        posterior_correlated: bool = False,
        base_weights: dict[str, Any] | None = None,
        interval_factors: dict[str, list[float]] | None = None,
        **kwargs,
    ):
        refuse_published_layout(kwargs.get("architectures"), kwargs.get("name_or_path"))
        check_config(kwargs, kwargs.get("name_or_path") or "this URM")
        self.backbone_config = _backbone_config(backbone_config)
        self.attributes = _attribute_names(attributes)
        n = len(self.attributes)
        self.gating_hidden_size = (
            self.backbone_config.hidden_size if gating_hidden_size is None else gating_hidden_size
        )
        if self.gating_hidden_size < 1:
            raise ValueError(f"`gating_hidden_size` must be at least 1, got {gating_hidden_size}.")
        self.reward_weights = _per_attribute("reward_weights", reward_weights, n)
        self.attribute_scales = check_scales(attribute_scales, self.attributes)
        self.label_means = _per_attribute("label_means", label_means, n) or [0.0] * n
        self.label_stds = _per_attribute("label_stds", label_stds, n) or [1.0] * n
        if not all(0 < std < float("inf") for std in self.label_stds):
            raise ValueError(f"`label_stds` must be positive and finite, got {self.label_stds}.")
        self.log_std_bounds = None if log_std_bounds is None else [float(bound) for bound in log_std_bounds]
        bounds = self.log_std_bounds
        if bounds is not None and (len(bounds) != 2 or not bounds[0] < bounds[1]):
            raise ValueError(f"`log_std_bounds` must be [low, high] with low < high, got {log_std_bounds}.")
        self.attribute_loss = attribute_loss
        self.training = training
        self.base_weights = _check_base(base_weights)
        self.posterior_rank, self.posterior_correlated = posterior_rank, posterior_correlated
        if posterior_rank is not None and not 1 <= posterior_rank <= self.backbone_config.hidden_size:
            raise ValueError(
                f"`posterior_rank` must lie between 1 and the hidden size {self.backbone_config.hidden_size}, got "
                f"{posterior_rank}."
            )

        self.interval_factors: dict[str, list[float]] | None = None
        if interval_factors is not None:
            self.set_interval_factors([float(level) for level in interval_factors], list(interval_factors.values()))

        if kwargs.pop("num_labels", 1) != 1 or len(kwargs.pop("id2label", None) or [0]) != 1:
            raise ValueError("A URM has `num_labels=1`, its reward. Rated attributes go into `attributes=[...]`.")
        for name in ("label2id", *BACKBONE_SIZES):
            kwargs.pop(name, None)
        kwargs.pop("auto_map", None)  # always this version's own files, never another repository's
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):  # older transformers write None over these
            kwargs.setdefault(name, getattr(self.backbone_config, name, None))
        # vLLM and pipelines put a sigmoid over a single label unless the problem is a regression
        kwargs["problem_type"] = "regression"
        super().__init__(id2label={0: "reward"}, label2id={"reward": 0}, **kwargs)
        self.auto_map = dict(AUTO_MAP)

    def to_dict(self) -> dict[str, Any]:
        """As in transformers, with the backbone's sizes on top, and the positions' base where transformers 4 looks."""
        output = super().to_dict()
        backbone = self.backbone_config
        output |= {
            name: getattr(backbone, name) for name in BACKBONE_SIZES if isinstance(getattr(backbone, name, None), int)
        }
        # nothing new in the config of a model without one
        for name in (*POSTERIOR_FIELDS, "base_weights"):
            if output.get(name) in (None, False):
                output.pop(name, None)
        output["backbone_config"] = with_rope_of_version_4(output["backbone_config"])
        tell_peft_targets(backbone.model_type)
        return output

    def set_interval_factors(self, levels: Sequence[float], factors: Sequence[Sequence[float]]):
        """
        How many standard deviations of the posterior's prediction make an interval.

        Args:
            levels (`list[float]`): the L shares of ratings that intervals hold, in (0, 1).
            factors (`list[list[float]]`): (L, n), 0 or more.

        Raises:
            ValueError: there is no posterior, or numbers that are out of range.
        """
        if self.posterior_rank is None:
            raise ValueError("`interval_factors` are of a posterior, and there is none: set `posterior_rank` first.")
        found: dict[str, list[float]] = {}
        for level, values in sorted(zip(levels, factors, strict=True)):
            if not 0 < level < 1:
                raise ValueError(f"`interval_factors` has the level {level}; it must lie between 0 and 1.")
            found[str(float(level))] = list(map(float, values))
            _per_attribute(f"interval_factors[{level}]", found[str(float(level))], len(self.attributes))
            if not all(0 <= value < float("inf") for value in values):
                raise ValueError(f"`interval_factors` must be 0 or more and finite, got {values} for {level}.")
        self.interval_factors = found or None

    # What generic tools read from the top level (DeepSpeed, Trainer, TRL, vLLM). Kept in one place, the backbone's
    # config, because TRL writes the pad token after loading and a copy would go stale.
    @property
    def hidden_size(self) -> int:
        return self.backbone_config.hidden_size

    @property
    def vocab_size(self) -> int:
        return self.backbone_config.vocab_size

    @vocab_size.setter
    def vocab_size(self, value: int):  # resize_token_embeddings writes it
        self.backbone_config.vocab_size = value

    @property
    def num_hidden_layers(self) -> int:
        return self.backbone_config.num_hidden_layers

    @property
    def max_position_embeddings(self) -> int | None:
        return getattr(self.backbone_config, "max_position_embeddings", None)

    @property
    def pad_token_id(self) -> int | None:
        return getattr(self.backbone_config, "pad_token_id", None)

    @pad_token_id.setter
    def pad_token_id(self, value: int | None):
        self.backbone_config.pad_token_id = value

    @property
    def bos_token_id(self) -> int | None:
        return getattr(self.backbone_config, "bos_token_id", None)

    @bos_token_id.setter
    def bos_token_id(self, value: int | None):
        self.backbone_config.bos_token_id = value

    @property
    def eos_token_id(self) -> int | list[int] | None:
        return getattr(self.backbone_config, "eos_token_id", None)

    @eos_token_id.setter
    def eos_token_id(self, value: int | list[int] | None):
        self.backbone_config.eos_token_id = value

    @property
    def num_labels(self) -> int:
        return 1

    @num_labels.setter
    def num_labels(self, value: int | None):
        if value not in (None, 1):
            raise ValueError(f"A URM has `num_labels=1`, got {value}. Rated attributes go into `attributes=[...]`.")


def refuse_published_layout(architectures: list[str] | None, name: str | None):
    """A ValueError if `architectures`, of the config of the checkpoint `name`, are those of the published layout."""
    if PUBLISHED_ARCHITECTURE in (architectures or []):
        raise ValueError(
            f"{name or 'This checkpoint'} is a URM in the published layout ({PUBLISHED_ARCHITECTURE}), of which plain "
            f"transformers ignores the gate. Convert it: `urm convert published {name or 'IN'} OUT`, and load OUT."
        )


def with_rope_of_version_4(config: dict[str, Any]) -> dict[str, Any]:
    """
    A decoder's config with `rope_theta` and `rope_scaling` beside the `rope_parameters` of transformers 5.

    Version 4 does not know the latter: it would take its default base and compute other hidden states, unsaid.
    """
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" not in rope:  # none, or one for each type of layer
        return config
    names = ("rope_theta", "partial_rotary_factor")
    found = {name: rope.pop(name) for name in names if name in rope}
    return config | found | {"rope_scaling": None if rope.get("rope_type") == "default" else rope}


def _backbone_config(value: PretrainedConfig | dict[str, Any] | None) -> PretrainedConfig:
    if value is None:
        raise ValueError(
            "`backbone_config` is missing: a URM needs the configuration of its decoder. Pass one, or build the model "
            "with `URMForRewardModeling.from_backbone(name_or_path)`."
        )
    if isinstance(value, dict):
        value = dict(value)
        check_config(value, "this URM")
        if "model_type" not in value:
            raise ValueError(f"`backbone_config` needs a `model_type`, got the keys {sorted(value)}.")
        value = AutoConfig.for_model(value.pop("model_type"), **value)
    refuse_published_layout(getattr(value, "architectures", None), getattr(value, "name_or_path", None))
    if not isinstance(getattr(value, "hidden_size", None), int):
        raise ValueError(
            f"`backbone_config` of type {type(value).__name__} has no `hidden_size`: pass the text decoder's own "
            "configuration (for a multimodal model, its `text_config`)."
        )
    return value


def _check_base(base: dict[str, Any] | None) -> dict[str, Any] | None:
    if base is None:
        return None
    named = isinstance(base, dict) and all(isinstance(base.get(key), str) and base[key] for key in BASE_FIELDS)
    if not named or not isinstance(base.get("commit"), (str, type(None))):
        raise ValueError(f"`base_weights` needs a name, a commit and a fingerprint, got {base!r:.200}.")
    return {key: base.get(key) for key in ("name", "commit", "fingerprint")}


def _attribute_names(attributes: list[str] | None) -> list[str]:
    names = list(HELPSTEER2_ATTRIBUTES if attributes is None else attributes)
    if isinstance(attributes, str) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`attributes` must be a non-empty list of names, got {attributes!r}.")
    if len(names) > MOST_ATTRIBUTES:
        raise ValueError(f"`attributes` has {len(names)} names; at most {MOST_ATTRIBUTES} are taken.")
    if len(set(names)) != len(names):
        raise ValueError(f"`attributes` must not repeat a name, got {names}.")
    return names


def _per_attribute(argument: str, values: list[float] | None, n: int) -> list[float] | None:
    if values is None:
        return None
    if len(values) != n:
        raise ValueError(f"`{argument}` needs one number for each of the {n} attributes, got {len(values)}: {values}.")
    return [float(value) for value in values]


def check_scales(scales: dict[str, list[float]] | None, attributes: list[str]) -> dict[str, list[float]] | None:
    """`attribute_scales` with numbers as floats; a ValueError names what is wrong with them."""
    if scales is None:
        return None
    if not isinstance(scales, dict):
        raise ValueError(f"`attribute_scales` must be of the form {{attribute: [min, max]}}, got {scales!r}.")
    for name, scale in scales.items():
        if name not in attributes:
            raise ValueError(f"`attribute_scales` names {name!r}, which is not one of the attributes {attributes}.")
        if not _is_scale(scale):
            raise ValueError(f"`attribute_scales[{name!r}]` must be [min, max] or [min, max, step], got {scale}.")
    return {name: [float(x) for x in scale] for name, scale in scales.items()}


def _is_scale(scale: Any) -> bool:
    """Whether it is [min, max] or [min, max, step], of finite numbers."""
    if not isinstance(scale, (list, tuple)) or len(scale) not in (2, 3):
        return False
    if not all(isinstance(x, Real) and not isinstance(x, bool) and isfinite(x) for x in scale):
        return False
    return bool(scale[0] < scale[1] and (len(scale) == 2 or scale[2] > 0))
