"""TRL `RewardTrainer` subclasses: the attribute stage and the gating stage."""

from urm_hf.trainers.attribute_trainer import URMAttributeTrainer
from urm_hf.trainers.configs import URMAttributeConfig, URMGatingConfig
from urm_hf.trainers.gating_trainer import URMGatingTrainer

__all__ = ["URMAttributeConfig", "URMAttributeTrainer", "URMGatingConfig", "URMGatingTrainer"]
