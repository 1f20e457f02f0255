"""Models and conversations for the scorer."""

import torch

from tests.helpers.tiny import pad_rows, tiny_tokenizer
from urm_hf.data.conversations import encode_conversation

TEXTS = ["Short.", "A text of some length, and then some more.", "x", "Of middling length", "Short.", "Another one."]
CHAT = [{"role": "user", "content": "Name a river."}, {"role": "assistant", "content": "The Po."}]


@torch.no_grad()
def outputs_alone(model, conversations) -> list:
    rows = [encode_conversation(tiny_tokenizer(), conversation) for conversation in conversations]
    return [model(**pad_rows([row])) for row in rows]
