"""TRL's trainers take a URM, an ensemble, their folders and the reward functions, with a policy of other tokens."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from tests.helpers.tiny import byte_tokenizer, save_with_tokenizer, tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import ROUNDINGS, assert_close, close
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.rl.rewards import (
    AttributeRewards,
    LowerConfidenceBoundReward,
    UncertaintyFilteredReward,
    UncertaintyPenalizedReward,
)

TRAINERS = {
    "grpo": (GRPOTrainer, GRPOConfig),
    "rloo": (RLOOTrainer, RLOOConfig),
    "online_dpo": (OnlineDPOTrainer, OnlineDPOConfig),
}
ATTRIBUTES = ["helpfulness", "coherence"]
MESSAGES = [[{"role": "user", "content": f"Name river {number}."}] for number in range(4)]
TEXTS = [f"River {number} is" for number in range(4)]


def policy_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as in `tiny_tokenizer`, but under other ids, with other special tokens and another template."""
    special = ["<unk>", "</s>", "[INST]", "[/INST]"]
    tokens = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=True)]
    return byte_tokenizer(
        {token: index for index, token in enumerate(tokens)},
        special,
        eos_token="</s>",
        pad_token="</s>",
        additional_special_tokens=["[INST]", "[/INST]"],
        chat_template=(
            "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
            "{% else %}{{ m['content'] }}</s>{% endif %}{% endfor %}"
        ),
    )


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("policy")
    torch.manual_seed(0)
    config = tiny_backbone_config(initializer_range=0.02, pad_token_id=1, eos_token_id=1, bos_token_id=None)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    policy_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("members")
    return [
        save_with_tokenizer(tiny_urm(seed=seed, attributes=ATTRIBUTES), folder / f"member-{seed}") for seed in range(2)
    ]


@pytest.fixture(scope="module")
def ensemble_folder(members, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("ensemble")
    URMEnsemble.from_pretrained(members).save_pretrained(folder)
    return str(folder)


def build(name: str, policy: str, reward, out: Path, prompts=MESSAGES, **kwargs):
    """A trainer of two steps; `trainer.seen` holds the prompts, completions and rewards of each call."""
    trainer_class, config_class = TRAINERS[name]
    settings = {
        "max_steps": 2,
        "per_device_train_batch_size": 4,
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "learning_rate": 1e-3,
        "seed": 3,
    }
    if name == "online_dpo":
        settings |= {"max_new_tokens": 8}
        kwargs |= {"processing_class": policy_tokenizer()}
        kwargs.setdefault("model", AutoModelForCausalLM.from_pretrained(policy))
    else:
        settings |= {"max_completion_length": 8, "num_generations": 4}
        settings |= {"model_init_kwargs": {"dtype": "float32"}}
    known = {key: kwargs.pop(key) for key in list(kwargs) if key in config_class.__dataclass_fields__}
    config = config_class(str(out), **settings | known)
    dataset = Dataset.from_dict({"prompt": prompts, "note": ["x"] * len(prompts)})
    model = kwargs.pop("model", policy)
    trainer = trainer_class(model, reward_funcs=reward, args=config, train_dataset=dataset, **kwargs)
    record(trainer)
    return trainer


def record(trainer):
    name = "_calculate_rewards_from_functions" if isinstance(trainer, OnlineDPOTrainer) else "_calculate_rewards"
    calculate, trainer.seen = getattr(trainer, name), []

    def recording(*args, **kwargs):
        rewards = calculate(*args, **kwargs)
        prompts, completions = (kwargs["prompts"], kwargs["completions"]) if kwargs else args[1:3]
        trainer.seen.append((prompts, completions, rewards.clone()))
        return rewards

    setattr(trainer, name, recording)


def rows(seen, **answer) -> list[dict]:
    return [{"prompt": p, "completion": c} for prompts, completions, _ in seen for p, c in zip(prompts, completions)]


def given(seen) -> np.ndarray:
    return torch.cat([rewards.reshape(len(prompts), -1) for prompts, _, rewards in seen]).numpy()


def reward_of(kind: str, members: list[str], ensemble_folder: str):
    """What a user may pass as `reward_funcs`, the scorer that it must agree with, and how."""
    raw = lambda score: score.reward  # noqa: E731
    return {
        "path": lambda: (members[0], members[0], raw),
        "path_of_ensemble": lambda: (ensemble_folder, ensemble_folder, raw),
        "urm": lambda: (URMForRewardModeling.from_pretrained(members[0]), members[0], raw),
        "ensemble": lambda: (URMEnsemble.from_pretrained(members), ensemble_folder, raw),
        "penalized": lambda: (
            UncertaintyPenalizedReward(ensemble_folder, "reward_gap", 0.5),
            ensemble_folder,
            lambda score: score.reward - 0.5 * score.reward_gap,
        ),
        "lower_bound": lambda: (
            LowerConfidenceBoundReward(members[0], 0.9),
            members[0],
            lambda score: score.reward - 1.2815515655446004 * score.reward_std,
        ),
    }[kind]()


KINDS = ["path", "path_of_ensemble", "urm", "ensemble", "penalized", "lower_bound"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TRAINERS)
def test_a_trainer_rewards_as_the_scorer_does(name, kind, policy, members, ensemble_folder, tmp_path):
    reward, scored_by, expected = reward_of(kind, members, ensemble_folder)
    trainer = build(name, policy, reward, tmp_path)
    before = trainer.model.get_input_embeddings().weight.detach().clone()
    trainer.train()
    scores = [expected(score) for score in RewardScorer(scored_by).score(rows(trainer.seen))]
    assert trainer.state.global_step == 2 and len(scores) >= 8
    assert np.std(scores) > 0.01
    assert_close(given(trainer.seen)[:, 0], scores)
    assert not torch.equal(before, trainer.model.get_input_embeddings().weight)  # it did learn from them


def test_with_plain_text_a_model_reads_it_verbatim_and_a_function_closes_it(policy, members, tmp_path):
    reward = [members[0], UncertaintyPenalizedReward(members[0], "reward_std", 0.0)]
    trainer = build("grpo", policy, reward, tmp_path, prompts=TEXTS, max_steps=1)
    trainer.train()
    texts = [{"text": row["prompt"] + row["completion"]} for row in rows(trainer.seen)]
    scorer = RewardScorer(members[0])
    as_model, as_function = given(trainer.seen).T
    assert_close(as_model, [score.reward for score in scorer.score(texts)])
    assert_close(as_function, [s.reward for s in scorer.score(rows(trainer.seen))])


# No reward


def halfway(members: list[str]) -> float:
    """A gap that about half of random answers are above: those of a policy that has learnt nothing."""
    tokenizer, generator = policy_tokenizer(), torch.Generator().manual_seed(0)
    answers = [tokenizer.decode(torch.randint(4, 260, (8,), generator=generator)) for _ in range(32)]
    scores = RewardScorer(URMEnsemble.from_pretrained(members)).score(
        [{"prompt": MESSAGES[0], "completion": answer} for answer in answers]
    )
    return float(np.median([score.reward_gap for score in scores]))


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_what_is_filtered_has_no_advantage_and_no_part_in_its_groups_mean(name, policy, members, tmp_path):
    reward = UncertaintyFilteredReward(members, "reward_gap", halfway(members))
    trainer = build(name, policy, reward, tmp_path, max_steps=1, num_generations=8, per_device_train_batch_size=8)
    trainer.train()
    rewards, advantages = given(trainer.seen)[:, 0], np.array(trainer._logs["advantages"])
    kept = ~np.isnan(rewards)
    assert 2 <= kept.sum() < 8
    assert (advantages[~kept] == 0).all()
    own = rewards[kept]
    if name == "grpo":
        expected = (own - own.mean()) / (own.std(ddof=1) + 1e-4)
    else:
        expected = own - (own.sum() - own) / (len(own) - 1)
    assert_close(advantages[kept], expected, roundings=ROUNDINGS / own.std())
    log = trainer.state.log_history[0]
    assert log["uncertainty_filtered_reward/kept_share"] == pytest.approx(kept.mean())
    scores = RewardScorer(URMEnsemble.from_pretrained(members)).score(rows(trainer.seen))
    gaps = [score.reward_gap for score in scores]
    assert log["uncertainty_filtered_reward/reward/mean"] == close(np.mean([s.reward for s in scores]))
    assert log["uncertainty_filtered_reward/reward_gap/mean"] == close(np.mean(gaps))
    assert log["uncertainty_filtered_reward/reward_gap/std"] == close(np.std(gaps))
    assert trainer._logs["extra"]["uncertainty_filtered_reward/reward_gap"] == close(gaps)


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_when_all_is_filtered_the_policy_stays_as_it_is(name, policy, members, tmp_path):
    reward = UncertaintyFilteredReward(members[0], "reward_std", 0.0)
    trainer = build(name, policy, reward, tmp_path, beta=0.0)
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.train()
    assert np.isnan(given(trainer.seen)).all()
    assert all(torch.equal(before[key], value) for key, value in trainer.model.state_dict().items())
    for log in trainer.state.log_history[:2]:
        assert log["loss"] == 0 and log["uncertainty_filtered_reward/kept_share"] == 0
        assert not any(isinstance(value, float) and math.isnan(value) for value in log.values())


def test_beside_another_reward_a_filtered_one_is_a_term_of_zero_if_normalised_first(policy, members, tmp_path):
    def length(completions, **columns):
        return [float(len(completion[0]["content"])) for completion in completions]

    reward = [UncertaintyFilteredReward(members, "reward_gap", halfway(members)), length]
    settings = {"max_steps": 1, "num_generations": 8, "per_device_train_batch_size": 8}
    aggregation = {"multi_objective_aggregation": "normalize_then_sum"}
    trainer = build("grpo", policy, reward, tmp_path, **settings, **aggregation)
    trainer.train()
    rewards = given(trainer.seen)
    standardised = (rewards - np.nanmean(rewards, 0)) / (np.nanstd(rewards, 0, ddof=1) + 1e-4)
    total = np.nan_to_num(standardised, nan=0.0).sum(1)
    expected = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    assert np.isnan(rewards[:, 0]).any() and not np.isnan(rewards[:, 0]).all()
    spread = min(np.nanstd(rewards[:, 0]), total.std())
    assert_close(trainer._logs["advantages"], expected, roundings=ROUNDINGS / spread)


def test_online_dpo_cannot_filter_and_is_told_so(policy, members, tmp_path):
    trainer = build("online_dpo", policy, UncertaintyFilteredReward(members[0], "reward_std", 0.1), tmp_path)
    with pytest.raises(ValueError, match="takes None for a reward of 0"):
        trainer.train()


def test_online_dpo_takes_none_for_zero(policy, tmp_path):
    """Why it cannot filter. If this fails, TRL has changed, and so may `UncertaintyFilteredReward`."""
    trainer = build(
        "online_dpo", policy, lambda completions, **columns: [None] * len(completions), tmp_path, max_steps=1
    )
    trainer.train()
    assert (given(trainer.seen) == 0).all()


# A reward function for each attribute


def test_attributes_are_normalised_then_summed_and_a_batch_is_scored_once(policy, members, tmp_path, monkeypatch):
    rewards = AttributeRewards(members[0])
    scorer, calls = rewards[0].completions.scorer, []
    score = scorer.score
    monkeypatch.setattr(scorer, "score", lambda rows: calls.append(len(rows)) or score(rows))
    settings = {"multi_objective_aggregation": "normalize_then_sum", "reward_weights": [0.7, 0.3]}
    trainer = build("grpo", policy, rewards, tmp_path, **settings)
    trainer.train()
    assert calls == [4, 4] and len(trainer.seen) == 2
    last = trainer.seen[-1:]
    scores = RewardScorer(members[0]).score(rows(last))
    means = np.array([[score.attribute_means[attribute] for attribute in ATTRIBUTES] for score in scores])
    assert_close(given(last), means)
    total = ((means - means.mean(0)) / (means.std(0, ddof=1) + 1e-4)) @ [0.7, 0.3]
    expected = (total - total.mean()) / (total.std(ddof=1) + 1e-4)
    spread = min(means.std(0).min(), total.std())
    assert_close(trainer._logs["advantages"], expected, roundings=ROUNDINGS / spread)
    log = trainer.state.log_history[1]
    assert log["rewards/helpfulness/mean"] == close(means[:, 0].mean())
    stds = [score.attribute_stds["coherence"] for score in scores]
    assert log["coherence/std/mean"] == close(np.mean(stds))


@pytest.mark.parametrize("name", ["rloo", "online_dpo"])
def test_attributes_are_summed_by_the_other_trainers(name, policy, ensemble_folder, tmp_path):
    trainer = build(name, policy, AttributeRewards(ensemble_folder), tmp_path, max_steps=1)
    trainer.train()
    means = [list(s.attribute_means.values()) for s in RewardScorer(ensemble_folder).score(rows(trainer.seen))]
    expected = np.sum(means, 1, keepdims=True) if name == "online_dpo" else means
    assert_close(given(trainer.seen), expected)
