"""What travels with a checkpoint. Importing this package registers the classes with transformers' Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from .configuration_urm import HELPSTEER2_ATTRIBUTES, URMConfig
from .modeling_urm import URMForRewardModeling, URMHead, URMOutput

AutoConfig.register(URMConfig.model_type, URMConfig, exist_ok=True)
AutoModel.register(URMConfig, URMForRewardModeling, exist_ok=True)
AutoModelForSequenceClassification.register(URMConfig, URMForRewardModeling, exist_ok=True)

__all__ = ["HELPSTEER2_ATTRIBUTES", "URMConfig", "URMForRewardModeling", "URMHead", "URMOutput"]
