"""Reward models that bring their own code, as tiny stand-ins for those at the top of reward benchmarks."""

import torch
from safetensors.torch import save_file
from transformers import LlamaForSequenceClassification

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer

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
