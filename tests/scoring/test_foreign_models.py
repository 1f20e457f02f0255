"""Reward models that bring their own code, as those at the top of reward benchmarks do, and models that are none."""

import pytest
import torch
from transformers import AutoModelForSequenceClassification, LlamaForCausalLM, LlamaForSequenceClassification

from tests.helpers.tiny import pad_rows, tiny_backbone_config, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer

CODE = """
from dataclasses import dataclass

import torch
from transformers import LlamaForSequenceClassification
from transformers.utils import ModelOutput


@dataclass
class GatedOutput(ModelOutput):
    logits: torch.Tensor = None
    rewards: torch.Tensor = None


class LlamaWithGate(LlamaForSequenceClassification):
    # a head called `score` like everybody's, whose rewards are gated by the first token's state afterwards
    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        rows = torch.arange(len(input_ids))
        last = hidden[rows, attention_mask.sum(1) - 1]
        parts = self.score(last) * torch.sigmoid(hidden[:, 0, : self.config.num_labels])
        return GatedOutput(logits=parts.sum(1) if self.config.summed else parts, rewards=parts)
"""
ROWS = [[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}] for text in ("Hello", "Hi, you")]


def gated_model(folder, summed: bool) -> str:
    """A folder with a model of five outputs and its own code, which gives (B,) or (B, 5) as `logits`."""
    torch.manual_seed(0)
    config = tiny_backbone_config(num_labels=5, initializer_range=0.3)
    config.summed = summed
    config.auto_map = {"AutoModelForSequenceClassification": "modeling_gate.LlamaWithGate"}
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "modeling_gate.py").write_text(CODE)
    return str(folder)


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
