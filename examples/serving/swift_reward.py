"""
A reward function for GRPO of ms-swift, with `urm serve` running:

    swift rlhf --rlhf_type grpo --external_plugins examples/serving/swift_reward.py --reward_funcs urm ...

ms-swift hands on its rows with the policy's answer as the last message, and all of a batch at once.
"""

import os

from swift.rewards import ORM, orms

from urm_hf.rewards import UncertaintyPenalizedReward


class UncertaintyReward(ORM):
    def __init__(self, *args, **kwargs):
        self.reward = UncertaintyPenalizedReward(os.environ.get("URM_URL", "http://127.0.0.1:8770"), "reward_gap", 0.5)

    def __call__(self, completions, messages, **kwargs):
        return self.reward([turns[:-1] for turns in messages], [turns[-1:] for turns in messages])


orms["urm"] = UncertaintyReward
