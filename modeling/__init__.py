"""What travels with a checkpoint. Importing this package registers the classes with transformers' Auto classes."""

from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from .configuration_urm import HELPSTEER2_ATTRIBUTES, URMConfig
from .configuration_urm_ensemble import URMEnsembleConfig
from .head_urm import URMHead
from .modeling_urm import URMForRewardModeling, URMOutput
from .modeling_urm_ensemble import URMEnsemble, URMEnsembleOutput

for config_class, model_class in ((URMConfig, URMForRewardModeling), (URMEnsembleConfig, URMEnsemble)):
    AutoConfig.register(config_class.model_type, config_class, exist_ok=True)
    AutoModel.register(config_class, model_class, exist_ok=True)
    AutoModelForSequenceClassification.register(config_class, model_class, exist_ok=True)

__all__ = [
    "HELPSTEER2_ATTRIBUTES",
    "URMConfig",
    "URMEnsemble",
    "URMEnsembleConfig",
    "URMEnsembleOutput",
    "URMForRewardModeling",
    "URMHead",
    "URMOutput",
]
