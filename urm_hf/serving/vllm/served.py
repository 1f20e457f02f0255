"""What a model's name stands for, as the plugin serves it; told from configs alone, in every process of vLLM anew."""

import os
from dataclasses import dataclass, field
from functools import cached_property

from urm_hf.checkpoints.published import open_published
from urm_hf.modeling.backbone_urm import read_config
from urm_hf.modeling.configuration_urm import PUBLISHED_ARCHITECTURE, URMConfig
from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig
from urm_hf.modeling.hub_place_urm import HubPlace
from urm_hf.modeling.member_checks_urm import check_configs
from urm_hf.modeling.member_names_urm import absolute_name
from urm_hf.modeling.members_urm import MemberSource
from urm_hf.serving.vllm.vectors import VectorLayout


@dataclass(frozen=True)
class ServedModel:
    """
    A URM, or an ensemble that vLLM can hold as one model: heads on one backbone, or LoRA adapters of one base.

    Args:
        name (`str`): repository or folder.
        configs (`list[URMConfig]`): of each member; one of a single URM.
        sources (`list[MemberSource]`): where each comes from; empty of the published layout.
        ensemble (`URMEnsembleConfig`, *optional*): how the members' rewards become one.
        revision (`str`, *optional*): commit, branch or tag of `name`.
    """

    name: str
    configs: list[URMConfig]
    sources: list[MemberSource] = field(default_factory=list)
    ensemble: URMEnsembleConfig | None = None
    revision: str | None = None

    @cached_property
    def has_adapters(self) -> bool:
        """Whether the members are LoRA adapters: then each member is asked by a request of its own."""
        return any(source.adapter is not None for source in self.sources)

    @property
    def is_published(self) -> bool:
        """Whether the checkpoint has the layout of the paper's authors."""
        return not self.sources

    @property
    def members(self) -> int:
        """How many URMs there are."""
        return len(self.configs)

    @property
    def layout(self) -> VectorLayout:
        """What the engine answers to one request."""
        n = len(self.configs[0].attributes)
        # an ensemble reads posteriors only where every member has one
        has_posterior = all(config.posterior_rank is not None for config in self.configs)
        return VectorLayout(n, 1 if self.has_adapters else self.members, has_posterior, len(self.levels))

    @property
    def levels(self) -> list[str]:
        """Of the intervals of a single URM that was calibrated."""
        return list(self.configs[0].interval_factors or {}) if self.members == 1 else []

    @property
    def tokenizer_place(self) -> tuple[str, HubPlace]:
        """Name and state of what holds the tokenizer: that of an ensemble is its first member's."""
        if self.sources:
            return self.sources[0].name, self.sources[0].place
        return self.name, HubPlace(revision=self.revision)


def read_served_model(name: str, revision: str | None = None) -> ServedModel:
    """
    Args:
        name (`str`): repository or folder of a URM in this package's layout or the published one, of a LoRA adapter of
            one, or of an ensemble.
        revision (`str`, *optional*): commit, branch or tag.

    Raises:
        ValueError: it is none of these, or its members do not fit each other.
    """
    place = HubPlace(revision=revision)
    found = read_config(name, place)
    if PUBLISHED_ARCHITECTURE in (found.get("architectures") or []):
        return ServedModel(name, [open_published(name, revision)[0]], revision=revision)
    kind = found.get("model_type")
    if kind == URMConfig.model_type:
        source = MemberSource(os.path.abspath(name) if os.path.isdir(name) else name, revision)
        return ServedModel(name, [source.config()], [source], revision=revision)
    if kind != URMEnsembleConfig.model_type:
        raise ValueError(f"{name} is of type {kind!r}: the plugin serves URMs and ensembles of them.")
    ensemble = URMEnsembleConfig.from_pretrained(name, **place.kwargs())
    members = [absolute_name(member, os.path.abspath(name)) for member in ensemble.members]
    sources = [MemberSource(*pin) for pin in zip(members, ensemble.revisions, strict=True)]
    configs = [source.config() for source in sources]
    check_configs(members, configs)
    if len({source.adapter is None for source in sources}) > 1:
        raise ValueError(f"the members of {name} are partly LoRA adapters: vLLM needs all of one kind.")
    ensemble.attributes = list(configs[0].attributes)
    return ServedModel(name, configs, sources, ensemble, revision)
