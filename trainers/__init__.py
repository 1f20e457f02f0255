"""TRL `RewardTrainer` subclasses: reward models, the attribute stage and the gating stage."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from urm_hf.trainers.attribute_trainer import URMAttributeTrainer
    from urm_hf.trainers.configs import URMAttributeConfig, URMGatingConfig, URMRewardConfig
    from urm_hf.trainers.gating_trainer import URMGatingTrainer
    from urm_hf.trainers.reward_trainer import URMRewardTrainer

_HOMES = {
    "URMAttributeConfig": "urm_hf.trainers.configs",
    "URMAttributeTrainer": "urm_hf.trainers.attribute_trainer",
    "URMGatingConfig": "urm_hf.trainers.configs",
    "URMGatingTrainer": "urm_hf.trainers.gating_trainer",
    "URMRewardConfig": "urm_hf.trainers.configs",
    "URMRewardTrainer": "urm_hf.trainers.reward_trainer",
}
__all__ = [
    "URMAttributeConfig",
    "URMAttributeTrainer",
    "URMGatingConfig",
    "URMGatingTrainer",
    "URMRewardConfig",
    "URMRewardTrainer",
]


def __getattr__(name: str) -> Any:
    # lazily: TRL takes seconds to import, and a pure function of the losses needs none of it
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
