"""Reward models that bring their own code, as those at the top of reward benchmarks do, and models that are none."""

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)

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


# Reward models that name themselves under AutoModel alone, and read the reward at a token of their own: InternLM2's

REWARD_CODE = """
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutputWithPast


class TinyForRewardModel(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model, self.v_head = LlamaModel(config), nn.Linear(config.hidden_size, 1, bias=False)
        self.reward_token_id = config.reward_token_id
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, **kwargs):
        values = self.v_head(self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state)[..., 0]
        ends = attention_mask.long().cumsum(1).argmax(1, keepdim=True)
        return SequenceClassifierOutputWithPast(logits=values.gather(1, ends))

    @torch.no_grad()
    def get_score(self, tokenizer, conversation):
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [self.reward_token_id]
        return self(torch.tensor([ids]), torch.ones(1, len(ids))).logits.item()
"""
REWARD_TOKEN = 255


def reward_token_model(folder, architecture: str = "TinyForRewardModel") -> str:
    """A folder with a model of its own code and auto_map, as that of `internlm/internlm2-1_8b-reward`."""
    torch.manual_seed(0)
    config = tiny_backbone_config(initializer_range=0.3)
    config.reward_token_id, config.architectures = REWARD_TOKEN, [architecture]
    config.auto_map = {"AutoModel": "modeling_reward.TinyForRewardModel"}
    weights = LlamaForSequenceClassification(tiny_backbone_config(num_labels=1, initializer_range=0.3)).state_dict()
    config.save_pretrained(folder)
    named = {key.replace("score.", "v_head."): tensor.contiguous() for key, tensor in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    tiny_tokenizer().save_pretrained(folder)
    (folder / "modeling_reward.py").write_text(REWARD_CODE)
    return str(folder)


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
