"""Conversations unlike those that a model was trained on, but as long: for `examples/unfamiliar.py`."""

import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from urm_hf.data.conversations import encode_conversation
from urm_hf.demo.data import conversation

Messages = list[dict[str, str]]


def arithmetic(rng: np.random.Generator, n: int) -> list[Messages]:
    """Products with a wrong result (those of the paper's A.2 are right); much shorter than most conversations."""
    pairs = rng.integers(100, 99999, (n, 2))
    return [conversation(f"{a} * {b} =?", str(a * b + rng.integers(1, 10**6))) for a, b in pairs.tolist()]


def long_arithmetic(rng: np.random.Generator, known: list[Messages], tokenizer) -> list[Messages]:
    """Lists of products, cut to the lengths of `known`, in prompt and answer."""
    made = []
    for messages in known:
        a, b = rng.integers(100, 99999, (2, 400)).tolist()
        asked = "\n".join(f"{x} * {y} =?" for x, y in zip(a, b, strict=True))
        told = "\n".join(f"{x} * {y} = {x * y + z}" for x, y, z in zip(a, b, rng.integers(1, 10**6, 400), strict=True))
        prompt, answer = (message["content"] for message in both(messages))
        made.append(conversation(cut(tokenizer, asked, prompt), cut(tokenizer, told, answer)))
    return made


def garbled(rng: np.random.Generator, known: list[Messages], tokenizer) -> list[Messages]:
    """The known prompts with their answers' characters in random order, cut to the answers' lengths in tokens."""
    made = []
    for messages in known:
        prompt, answer = (message["content"] for message in both(messages))
        made.append(conversation(prompt, cut(tokenizer, "".join(rng.permutation(list(answer))), answer)))
    return made


def hard_prompts(path: str, policy: str, known: list[Messages], cache: Path, seed: int) -> list[Messages]:
    """
    User prompts of another kind with a small chat model's sampled answers: as long in all as a known conversation, of
    which the prompt takes at most two thirds. `cache` keeps the answers.
    """
    if cache.exists():
        return json.loads(cache.read_text())
    from urm_hf.data import load_rows

    tokenizer = AutoTokenizer.from_pretrained(policy, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(policy, dtype=torch.bfloat16).eval()
    lengths = [len(encode_conversation(tokenizer, messages)) for messages in known]
    prompts = [row["prompt"] for row in load_rows(path, "test")]
    sizes = [len(tokenizer.apply_chat_template(prompt, return_dict=True)["input_ids"]) for prompt in prompts]
    chosen = match_lengths(sizes, lengths, np.random.default_rng(seed))
    torch.manual_seed(seed)
    made = []
    for start in range(0, len(chosen), 16):
        batch = chosen[start : start + 16]
        texts = [
            tokenizer.apply_chat_template(prompts[p], tokenize=False, add_generation_prompt=True) for p, _ in batch
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        room = [length - sizes[prompt] for prompt, length in batch]
        answers = model.generate(**inputs, do_sample=True, top_p=0.95, max_new_tokens=max(room), min_new_tokens=4)
        for (prompt, _), answer, most in zip(batch, answers[:, inputs["input_ids"].shape[1] :], room, strict=True):
            text = tokenizer.decode(answer[:most], skip_special_tokens=True).strip()
            made.append([*prompts[prompt], {"role": "assistant", "content": text or "..."}])
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(made))
    return made


def match_lengths(sizes: list[int], lengths: list[int], rng: np.random.Generator) -> list[tuple[int, int]]:
    """(prompt, length of the whole conversation) pairs: each length gets a prompt of its own of at most two thirds."""
    free, made = list(rng.permutation(len(sizes))), []
    for length in sorted(lengths):
        fitting = next((prompt for prompt in free if sizes[prompt] <= 2 * length / 3), None)
        if fitting is not None:
            free.remove(fitting)
            made.append((int(fitting), length))
    return made


def both(messages: Messages) -> Messages:
    """Prompt and answer of a conversation of one turn."""
    return [messages[-2], messages[-1]]


def cut(tokenizer, text: str, model: str) -> str:
    """`text` cut to as many tokens as `model` has."""
    length = len(tokenizer(model, add_special_tokens=False)["input_ids"])
    return tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][:length])
