"""
GRPO with a reward that `urm serve` gives, less half of what the members of its ensemble differ by.

    urm serve org/urm-a,org/urm-b,org/urm-c
    python examples/serving/trl_grpo.py --policy HuggingFaceTB/SmolLM2-135M-Instruct --output_dir policy

All other options are those of TRL's GRPOConfig. A token stands in the URL: `--url http://any:TOKEN@host:8770`.
"""

from dataclasses import dataclass

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, TrlParser

from urm_hf.demo.data import questions
from urm_hf.rewards import UncertaintyPenalizedReward


@dataclass
class Arguments:
    policy: str
    url: str = "http://127.0.0.1:8770"


args, config = TrlParser((Arguments, GRPOConfig)).parse_args_and_config()
prompts = Dataset.from_list([{"prompt": prompt} for prompt in questions()])
reward = UncertaintyPenalizedReward(args.url, "reward_gap", 0.5)
GRPOTrainer(args.policy, reward_funcs=reward, args=config, train_dataset=prompts).train()
