"""Tiny models, tokenizers and folders, built in code: no test touches the network."""

import os
from collections.abc import Iterable

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, PretrainedConfig, PreTrainedTokenizerFast

from urm_hf.modeling import URMConfig, URMForRewardModeling

SPECIAL_TOKENS = ["<|pad|>", "<|bos|>", "<|im_start|>", "<|im_end|>"]
PAD, BOS, EOS = 256, 257, 259
VOCAB_SIZE = 260
FAMILIES = ["llama", "qwen2", "qwen3", "gemma", "mistral", "gpt2"]
CHATML = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# the beginning of a program that must do without this package
WITHOUT_PACKAGE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("urm_hf", "modeling", "trainers"):
            raise ImportError(name + " is blocked")

sys.meta_path.insert(0, Blocker())
"""


def byte_tokenizer(vocab: dict[str, int], special_tokens: list[str], **settings) -> PreTrainedTokenizerFast:
    """A byte-level BPE without merges: every UTF-8 byte is one token of `vocab`."""
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special_tokens)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)


def tiny_tokenizer(padding_side: str = "right") -> PreTrainedTokenizerFast:
    """Bytes are ids 0-255, with four special tokens above."""
    return byte_tokenizer(
        {byte: index for index, byte in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))},
        SPECIAL_TOKENS,
        pad_token="<|pad|>",
        bos_token="<|bos|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
        padding_side=padding_side,
        model_max_length=512,
    )


def tiny_backbone_config(family: str = "llama", **kwargs) -> PretrainedConfig:
    """
    Two layers, hidden size 64, two heads of 32, the vocabulary of `tiny_tokenizer`.

    The initial weights are large, so that attention is sharp and a token or a position that leaks shows in the reward.
    """
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 512}
    if family not in ("gpt2", "gpt_neox"):
        shape |= {"num_key_value_heads": 1, "head_dim": 32}
    if family != "gpt2":
        shape |= {"intermediate_size": 96}
    if family == "mistral":
        shape |= {"sliding_window": 4}
    tokens = {"vocab_size": VOCAB_SIZE, "pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
    return AutoConfig.for_model(family, **(shape | tokens | {"initializer_range": 0.1} | kwargs))


def tiny_urm(
    family: str = "llama", *, seed: int = 0, backbone: PretrainedConfig | None = None, **kwargs
) -> URMForRewardModeling:
    """A URM with random weights in eval mode; `kwargs` go to `URMConfig`. Its rewards are O(1), its stds vary."""
    torch.manual_seed(seed)
    model = URMForRewardModeling(URMConfig(backbone_config=backbone or tiny_backbone_config(family), **kwargs))
    _enlarge_head(model.score)
    return model.eval()


@torch.no_grad()
def randomise(parameters: Iterable[torch.Tensor], std: float, seed: int | None = None):
    """
    Draws weights anew. Not by `torch.nn.init`: transformers replaces its functions while a model loads, in any thread,
    by some that leave alone what was loaded.
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.normal_(std=std, generator=generator)


@torch.no_grad()
def _enlarge_head(head: torch.nn.Module):
    n = len(head.value.weight) // 2
    head.value.weight[:n].normal_(std=0.2)
    head.value.weight[n:].normal_(std=0.1)
    if head.gate is not None:
        for layer in head.gate[::2]:
            layer.weight.normal_(std=layer.in_features**-0.5)
            layer.bias.normal_(std=0.3)


def random_rows(lengths: list[int], seed: int = 0) -> list[list[int]]:
    """Token ids of conversations of these lengths, without special tokens."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (length,), generator=generator).tolist() for length in lengths]


def pad_rows(rows: list[list[int]], side: str = "right", extra: int = 0) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask` of rows padded on one side, with `extra` more columns than needed."""
    width = max(map(len, rows)) + extra
    pads = [width - len(row) for row in rows]
    if side == "right":
        ids = [row + [PAD] * pad for row, pad in zip(rows, pads)]
        mask = [[1] * len(row) + [0] * pad for row, pad in zip(rows, pads)]
    else:
        ids = [[PAD] * pad + row for row, pad in zip(rows, pads)]
        mask = [[0] * pad + [1] * len(row) for row, pad in zip(rows, pads)]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def save_with_tokenizer(model: URMForRewardModeling, folder) -> str:
    """Writes the model and `tiny_tokenizer` into `folder`, whose path is returned."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def save_members(folder, models: list[URMForRewardModeling]) -> list[str]:
    """Writes each with a tokenizer into a folder of its own; returns their paths."""
    return [save_with_tokenizer(model, folder / f"member-{number}") for number, model in enumerate(models)]


class OpenedFile:
    """What `safe_open` gives, for a test to override what it watches."""

    def __init__(self, *args, **kwargs):
        self.file = safe_open(*args, **kwargs)

    def __enter__(self):
        return self

    def __exit__(self, *args):
        pass

    def __getattr__(self, name):
        return getattr(self.file, name)
