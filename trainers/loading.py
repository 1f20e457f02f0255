"""The model that a trainer is given, as an instance: a URM, or fresh heads on a backbone."""

from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    set_seed,
)

from urm_hf.checkpoints.adapters import is_adapter, load_adapter
from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.modeling import URMConfig, URMEnsembleConfig, URMForRewardModeling
from urm_hf.modeling.backbone_urm import check_holds_model, read_config
from urm_hf.modeling.base_urm import describe_base
from urm_hf.modeling.checks_urm import explain_damage
from urm_hf.modeling.configuration_urm import refuse_published_layout
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.members_urm import MemberSource


def pin_source(model: str, args) -> MemberSource:
    """
    Where a model comes from, at the commit that its `revision` is now.

    `args.model_init_kwargs` name that commit from now on, so that all is read from it, whatever is pushed meanwhile.
    """
    kwargs = args.model_init_kwargs or {}
    place = HubPlace.read(kwargs)
    source = MemberSource(model, place.revision, place)
    if source.revision is not None:
        args.model_init_kwargs = {**kwargs, "revision": source.revision}
    return source


def load_tokenizer_of(source: MemberSource, args) -> PreTrainedTokenizerBase | None:
    """The tokenizer that is saved with a model, at its commit; where an adapter has none, that of its base."""
    if source.file("tokenizer_config.json") is None:
        base = source.base()
        return None if base is None else load_tokenizer_of(base, args)
    trust = _read_trust(args.model_init_kwargs or {}, args)
    return load_chat_tokenizer(source.name, trust, **source.place.kwargs())


def load_urm(
    model: str | PreTrainedModel, args, fresh_heads: bool = True, quantization_config=None, **head
) -> PreTrainedModel:
    """
    A URM from a repository or folder: loaded, if it is one (an adapter is merged into its base); else built on the
    causal LM or reward model found there.

    Args:
        model (`str` or `PreTrainedModel`): an instance is returned as it is.
        args (`URMTrainingConfig`): `seed` (set before fresh heads are drawn), `model_init_kwargs` and
            `trust_remote_code` are read.
        fresh_heads (`bool`, *optional*, defaults to `True`): whether a model that is not a URM may get heads here.
        quantization_config (`BitsAndBytesConfig`, *optional*): to load a model by that is named.
        head: arguments of [`URMForRewardModeling.from_backbone`] for fresh heads.

    Returns:
        The URM, by default in float32.

    Raises:
        ValueError: a model of another kind or an unknown architecture, of other attributes, or of the layout that the
            paper's authors published.
    """
    if not isinstance(model, str):
        if quantization_config is not None:
            raise ValueError("`quantization_config` is for loading a model by name, but it is loaded already.")
        return model
    set_seed(args.seed)  # Trainer sets it too late for heads that are drawn here
    # float32 unless asked otherwise: small updates are lost in the 16 bits that most checkpoints are stored in
    kwargs = {"dtype": torch.float32, **(args.model_init_kwargs or {})}
    if quantization_config is not None:
        kwargs["quantization_config"] = quantization_config
    args.model_init_kwargs = None  # used up here: TRL complains of them beside a model that is an instance
    if isinstance(kwargs["dtype"], str) and kwargs["dtype"] != "auto":
        kwargs["dtype"] = getattr(torch, kwargs["dtype"])
    # Read before the model, from config.json alone: what kind it is decides by which class it is loaded.
    place = HubPlace.read(kwargs)
    trust = _read_trust(kwargs, args)
    kwargs.pop("trust_remote_code", None)  # passed by name below
    found = read_config(model, place)
    refuse_published_layout(found.get("architectures"), model)
    if not found and fresh_heads:  # an adapter of a causal LM or reward model; one of a URM has a config.json
        return URMForRewardModeling.from_backbone(model, trust_remote_code=trust, **head, **kwargs)
    if found:
        _check_known(found, model)
    check_holds_model(model, place)
    with explain_damage(f"config.json of {model}"):
        config = AutoConfig.from_pretrained(model, trust_remote_code=trust, **place.kwargs())
    if isinstance(config, URMConfig):
        if head.get("attributes") not in (None, config.attributes):
            raise ValueError(f"{model} predicts {config.attributes}, but `attributes` asks for {head['attributes']}.")
        load = load_adapter if is_adapter(model, **place.kwargs()) else URMForRewardModeling.from_pretrained
        return load(model, **kwargs)
    if isinstance(config, URMEnsembleConfig):
        raise ValueError(f"{model} is an ensemble, and this trains one model: name one of its members.")
    if not fresh_heads:
        raise ValueError(
            f"{model} is of type {config.model_type!r}, not a URM: its attributes are not trained, and a gate has "
            "nothing to weigh. Run the attribute stage first (`urm train attributes`)."
        )
    return URMForRewardModeling.from_backbone(model, trust_remote_code=trust, **head, **kwargs)


def name_base(model: PreTrainedModel, source: MemberSource | None, *, frozen: bool) -> None:
    """
    Has a model's heads be saved alone, where its backbone stays as it is and others can find it.

    Args:
        model (`PreTrainedModel`): a URM; an adapter, which names its base itself, is passed over.
        source (`MemberSource`, *optional*): where the model was loaded from by name.
        frozen (`bool`): whether no weight of the backbone trains, and it need not be saved.
    """
    if not isinstance(model, URMForRewardModeling):
        return
    if not frozen:
        model.refer_to_base(None)
        return
    quantized = any(getattr(module, "is_quantized", False) for module in model.modules())
    if model.config.base_weights is not None or source is None or quantized:
        return
    if read_config(source.name, source.place).get("model_type") != URMConfig.model_type:
        model.refer_to_base(describe_base(source.name, source.place))


def read_model_config(model: str, args) -> PretrainedConfig | None:
    """The config of a repository or folder that [`load_urm`] would load; None where it has none, as an adapter."""
    kwargs = args.model_init_kwargs or {}
    place = HubPlace.read(kwargs)
    found = read_config(model, place)
    refuse_published_layout(found.get("architectures"), model)
    if not found:
        return None
    _check_known(found, model)
    with explain_damage(f"config.json of {model}"):
        return AutoConfig.from_pretrained(model, trust_remote_code=_read_trust(kwargs, args), **place.kwargs())


def _check_known(config: dict[str, Any], name: str):
    """Tells in one line of an architecture that transformers does not know: its own words fill a screen."""
    model_type, code = config.get("model_type"), config.get("auto_map")
    with_code = isinstance(code, dict) and "AutoConfig" in code
    if with_code or (isinstance(model_type, str) and model_type in CONFIG_MAPPING):
        return
    raise ValueError(
        f"config.json of {name} says `model_type` {model_type!r:.100}, which transformers {transformers.__version__} "
        "does not know: name a causal LM, reward model or URM, or upgrade (`pip install -U transformers`)."
    )


def _read_trust(kwargs: dict[str, Any], args) -> bool:
    return kwargs.get("trust_remote_code", getattr(args, "trust_remote_code", False))  # TRL 1.0 has no such argument
