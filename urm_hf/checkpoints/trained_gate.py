"""Whether a model's gate was trained, of what its config.json records."""

from collections.abc import Mapping
from typing import Any

UNTRAINED_GATE = (
    "the gate was not trained: the reward weighs the attributes by numbers that were drawn at random about 1/n, and "
    "may count some of them negatively. Train it (`urm train gating`), or fix the weights (`--reward_weights`), "
    "before you rely on rewards; predicted ratings do not depend on it"
)


def has_untrained_gate(config: Mapping[str, Any]) -> bool:
    """
    Whether the rewards are those of a gate as it was drawn.

    Args:
        config (`Mapping`): of a model. One that records no attribute stage tells nothing of its gate, and is believed.
    """
    training = config.get("training")
    stages = training if isinstance(training, Mapping) else {}
    return "attribute_stage" in stages and "gating_stage" not in stages and not config.get("reward_weights")
