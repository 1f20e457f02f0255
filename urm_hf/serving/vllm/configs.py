"""The configs of URMs as vLLM reads them: what it asks of a text model, it asks of the backbone's."""

from typing import Any

from transformers import PretrainedConfig

from urm_hf.modeling.configuration_urm import URMConfig
from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig
from urm_hf.serving.vllm.served import read_served_model


class ServedURMConfig(URMConfig):
    """A URM's config. It has an `__init__` of its own, for otherwise transformers would make it a dataclass."""

    def __init__(self, backbone_config: PretrainedConfig | dict[str, Any] | None = None, **kwargs: Any):
        super().__init__(backbone_config=backbone_config, **kwargs)

    def get_text_config(self, *args: Any, **kwargs: Any) -> PretrainedConfig:
        """The backbone's config."""
        return self.backbone_config


class ServedEnsembleConfig(URMEnsembleConfig):
    """
    An ensemble's config, with the backbone's that the members share.

    Args:
        backbone_config (`PretrainedConfig`, *optional*): that of the members.
    """

    backbone_config: PretrainedConfig | None = None

    def __init__(
        self, members: list[str] | None = None, backbone_config: PretrainedConfig | None = None, **kwargs: Any
    ):
        super().__init__(members=members, **kwargs)
        self.backbone_config = backbone_config

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers; of a config that was found by its name, the configs of the members are read too."""
        name = kwargs.get("name_or_path") or config_dict.get("_name_or_path")
        found = super().from_dict(config_dict, **kwargs)
        config = found[0] if isinstance(found, tuple) else found
        if name:
            served = read_served_model(str(name), kwargs.get("_commit_hash") or kwargs.get("revision"))
            config.backbone_config = served.configs[0].backbone_config
        return found

    def get_text_config(self, *args: Any, **kwargs: Any) -> PretrainedConfig:
        """The backbone's config."""
        return self if self.backbone_config is None else self.backbone_config
