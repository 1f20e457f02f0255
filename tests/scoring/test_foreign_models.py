"""Reward models that bring their own code, as those at the top of reward benchmarks do, and models that are none."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    LlamaModel,
)

from tests.helpers.foreign_models import REWARD_TOKEN, gated_model, reward_token_model
from tests.helpers.tiny import pad_rows, tiny_backbone_config, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer

ROWS = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in ("Hello", "Hi, you")]


def test_rewards_are_those_of_the_models_own_forward(tmp_path):
    folder = gated_model(tmp_path / "gate", summed=True)
    scorer = RewardScorer(folder, trust_remote_code=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=True).eval()
    assert model.score.out_features == 5
    with torch.no_grad():
        expected = [model(**pad_rows([ids])).logits.item() for ids in scorer.encode(ROWS)[0]]
    assert [score.reward for score in scorer.score(ROWS)] == close(expected)
    assert scorer.score(ROWS)[0].reward_std is None


def test_several_numbers_for_a_conversation_are_no_reward(tmp_path):
    scorer = RewardScorer(gated_model(tmp_path / "gate", summed=False), trust_remote_code=True)
    with pytest.raises(ValueError, match=r"`logits` of shape \(2, 5\)"):
        scorer.score(ROWS)


def test_a_language_model_is_no_reward_model(tmp_path):
    LlamaForCausalLM(tiny_backbone_config()).save_pretrained(tmp_path / "lm")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    with pytest.raises(ValueError, match=r"no weights for score.weight.*not a reward model"):
        RewardScorer(str(tmp_path / "lm"))


# Reward models that name themselves under AutoModel alone, and read the reward at a token of their own: InternLM2's


def test_a_reward_model_of_automodel_alone_gives_the_scores_of_its_own_method(tmp_path):
    folder = reward_token_model(tmp_path / "reward")
    scorer = RewardScorer(folder, trust_remote_code=True)
    model = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    expected = [model.get_score(scorer.tokenizer, row) for row in ROWS]
    assert [score.reward for score in scorer.score(ROWS)] == close(expected)
    ids = scorer.encode(ROWS)[0]
    assert all(row[-1] == REWARD_TOKEN and REWARD_TOKEN not in row[:-1] for row in ids)
    # without that token the rewards are others: the test would see it missing
    with torch.no_grad():
        bare = [model(**pad_rows([row[:-1]])).logits.item() for row in ids]
    assert bare != close(expected)


def test_the_reward_token_stays_where_a_conversation_is_cut(tmp_path):
    folder = reward_token_model(tmp_path / "reward")
    whole = RewardScorer(folder, trust_remote_code=True).encode(ROWS[:1])[0][0]
    for side, kept in (("left", whole[-9:-1]), ("right", whole[:8])):
        scorer = RewardScorer(folder, trust_remote_code=True, max_length=9, truncation=side)
        ids, cut = scorer.encode(ROWS[:1])
        assert ids == [[*kept, REWARD_TOKEN]] and cut == [True]
    exact = RewardScorer(folder, trust_remote_code=True, max_length=len(whole))
    assert exact.encode(ROWS[:1]) == ([whole], [False])
    with pytest.raises(ValueError, match="row 0"):
        RewardScorer(folder, trust_remote_code=True, max_length=len(whole) - 1).encode(ROWS[:1])


def test_its_code_runs_only_where_it_is_trusted(tmp_path):
    with pytest.raises(ValueError, match="trust_remote_code"):
        RewardScorer(reward_token_model(tmp_path / "reward"))


def test_a_backbone_under_automodel_is_no_reward_model(tmp_path):
    """Where the weights are another class's, AutoModel is not asked: it would load their backbone without a head."""
    folder = reward_token_model(tmp_path / "lm", architecture="LlamaForCausalLM")
    with pytest.raises(ValueError, match=r"no weights for score.weight.*not a reward model"):
        RewardScorer(folder, trust_remote_code=True)


def test_a_model_without_logits_is_no_reward_model(tmp_path):
    LlamaModel(tiny_backbone_config()).save_pretrained(tmp_path / "backbone")
    tiny_tokenizer().save_pretrained(tmp_path / "backbone")
    backbone = AutoModel.from_pretrained(tmp_path / "backbone")
    with pytest.raises(ValueError, match="LlamaModel gives no `logits`"):
        RewardScorer(backbone, tiny_tokenizer()).score(ROWS)
