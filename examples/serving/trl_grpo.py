"""
GRPO with a reward that `urm serve` gives, less half of what the members of its ensemble differ by.

    urm serve org/urm-a,org/urm-b,org/urm-c
    python examples/serving/trl_grpo.py HuggingFaceTB/SmolLM2-135M-Instruct http://127.0.0.1:8770
"""

import sys

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from urm_hf.demo.data import questions
from urm_hf.rewards import UncertaintyPenalizedReward

policy, url, *steps = sys.argv[1:]
prompts = Dataset.from_list([{"prompt": prompt} for prompt in questions()])
config = GRPOConfig("policy", max_steps=int(steps[0]) if steps else -1, report_to=[])
reward = UncertaintyPenalizedReward(url, "reward_gap", 0.5)
GRPOTrainer(policy, reward_funcs=reward, args=config, train_dataset=prompts).train()
