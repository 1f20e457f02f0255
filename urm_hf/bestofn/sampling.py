"""
Answers of a causal language model that depend on the seed alone: not on the batch, nor on how many others are drawn.

Each answer has a stream of random numbers of its own, seeded by (seed, number of the prompt, number of the answer),
and takes from it one number for each token. Batches change results only by the rounding of the model's logits.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from urm_hf.data.conversations import Messages
from urm_hf.scoring.engine.padding import pad_batch, pad_token_id

Prompt: TypeAlias = str | Messages


@dataclass(frozen=True)
class Answer:
    """
    One answer.

    Args:
        text (`str`): without special tokens.
        cut (`bool`): whether `max_new_tokens` ended it, and not the model.
    """

    text: str
    cut: bool


def sample_answers(
    policy: PreTrainedModel | str | os.PathLike,
    prompts: Sequence[Prompt],
    n: int,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_new_tokens: int = 512,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    first_prompt: int = 0,
    batch_size: int = 8,
    progress: bool = False,
    trust_remote_code: bool = False,
    revision: str | None = None,
    **model_kwargs: Any,
) -> list[list[Answer]]:
    """
    n answers to each prompt, in their order.

    Args:
        policy (`PreTrainedModel`, `str` or `PathLike`): a decoder that generates, or the name of one. Its generation
            config holds (ends of a turn, repetition penalty, ...) but for what is set here: by default answers are
            drawn from the policy as it is.
        prompts (`list[Messages]` or `list[str]`): messages, which the chat template writes as text, or texts, which
            are continued as they stand.
        n (`int`): answers to each prompt.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): by default the one saved with the policy.
        max_new_tokens (`int`, *optional*, defaults to `512`): the longest answer.
        temperature (`float`, *optional*, defaults to `1.0`): 0 is greedy, which makes sense for one answer only.
        top_p (`float`, *optional*, defaults to `1.0`): as in transformers.
        top_k (`int`, *optional*): as in transformers; by default all tokens.
        seed (`int`, *optional*, defaults to `0`): of the draws.
        first_prompt (`int`, *optional*, defaults to `0`): the number of the first prompt, where these are a part of
            more: parts give the answers that the whole would.
        batch_size (`int`, *optional*, defaults to `8`): answers that are written at once.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
        trust_remote_code (`bool`, *optional*, defaults to `False`): for loading `policy` by name.
        revision (`str`, *optional*): for loading `policy` by name.
        model_kwargs: for loading `policy` by name (`dtype`, `device_map`, ...).

    Returns:
        `list[list[Answer]]`: n for each prompt.

    Raises:
        ValueError: a setting is out of range, a prompt is empty, ends with an answer, or leaves no room for one, there
            is no chat template, or the policy is not a decoder.
    """
    _check_settings(n, max_new_tokens, temperature, top_p, top_k, seed, batch_size)
    hub = {"revision": revision, "trust_remote_code": trust_remote_code}
    policy = _load(policy, hub, model_kwargs)
    if tokenizer is None:
        tokenizer = AutoTokenizer.from_pretrained(policy.config.name_or_path, **hub)
    encoded = [_encode(tokenizer, prompt, number) for number, prompt in enumerate(prompts)]
    _check_room(policy, encoded, max_new_tokens)
    warpers = _build_warpers(temperature, top_k, top_p)
    writer = _Writer(policy, tokenizer, warpers, max_new_tokens, None if temperature == 0 else seed)
    return _write_all(writer, encoded, n, batch_size, first_prompt, progress=progress)


class DrawnToken(LogitsProcessor):
    """
    Leaves each row the one token that its number in [0, 1) falls on, so that greedy decoding samples.

    Not `do_sample`: that draws for the whole batch from one generator, and an answer would depend on its neighbors.

    Args:
        numbers (`Tensor` of shape `(B, T)`): one for each row and step.
    """

    def __init__(self, numbers: Tensor):
        self.numbers, self.step = numbers, 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        # Inverse transform sampling. In double precision: float32 sums over 150,000 tokens would lose the rare ones.
        # (B, V), (B, 1), (B, 1)
        upto = scores.double().softmax(-1).cumsum(-1)  # probability of this token and those before it
        drawn = self.numbers[:, self.step, None] * upto[:, -1:]  # the sum may miss 1 by rounding
        token = torch.searchsorted(upto, drawn, right=True).clamp(max=scores.shape[-1] - 1)
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)


class _Writer:
    """Writes batches of answers; greedily if there is no seed."""

    def __init__(self, policy, tokenizer, warpers: LogitsProcessorList, max_new_tokens: int, seed: int | None):
        self.policy, self.tokenizer, self.warpers, self.seed = policy, tokenizer, warpers, seed
        self.max_new_tokens, self.pad = max_new_tokens, pad_token_id(tokenizer)
        ends = policy.generation_config.eos_token_id
        # chat models end a turn with one token and a text with another, and name only one of them in the tokenizer
        ends = ends if isinstance(ends, list) else [ends]
        self.ends = sorted({end for end in (*ends, tokenizer.eos_token_id) if end is not None})

    @torch.inference_mode()
    def write(self, prompts: list[list[int]], streams: list[tuple[int, int]]) -> list[Answer]:
        batch = pad_batch([prompt[::-1] for prompt in prompts], self.pad)  # flipped: padding to the left
        inputs = {name: tensor.flip(1).to(self.policy.device) for name, tensor in batch.items()}
        written = self.policy.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            logits_processor=LogitsProcessorList([*self.warpers, *self._draw(streams)]),
            pad_token_id=self.pad,
            eos_token_id=self.ends or None,
            num_return_sequences=1,
            num_beams=1,
            do_sample=False,
            temperature=1.0,  # what a policy's generation config has here is not used, and warned of
            top_p=1.0,
            top_k=50,
        )
        return [self._answer(row) for row in written[:, inputs["input_ids"].shape[1] :].tolist()]

    def _draw(self, streams: list[tuple[int, int]]) -> list[DrawnToken]:
        if self.seed is None:
            return []
        numbers = []
        for stream in streams:
            numbers.append(np.random.default_rng([self.seed, *stream]).random(self.max_new_tokens))
        return [DrawnToken(torch.from_numpy(np.stack(numbers)).to(self.policy.device))]

    def _answer(self, ids: list[int]) -> Answer:
        end = next((place for place, token in enumerate(ids) if token in self.ends), None)
        return Answer(self.tokenizer.decode(ids[:end], skip_special_tokens=True), cut=end is None)


def _write_all(
    writer: _Writer, encoded: list[list[int]], n: int, batch_size: int, first_prompt: int, *, progress: bool
) -> list[list[Answer]]:
    """n answers to each encoded prompt, in batches of prompts of like lengths."""
    places = list(product(range(len(encoded)), range(n)))  # (number of the prompt, number of the answer)
    # longest prompts first: batches of like lengths waste little on padding, and one too large for the memory is told
    # at once
    wanted = sorted(places, key=lambda place: -len(encoded[place[0]]))
    answers: dict[tuple[int, int], Answer] = {}
    # of a policy that is being trained, dropout would be on
    training = writer.policy.training
    writer.policy.eval()
    try:
        with tqdm(total=len(wanted), desc="Generating", unit="answer", disable=not progress) as bar:
            for start in range(0, len(wanted), batch_size):
                batch = wanted[start : start + batch_size]
                streams = [(first_prompt + prompt, number) for prompt, number in batch]
                answers |= zip(batch, writer.write([encoded[prompt] for prompt, _ in batch], streams), strict=True)
                bar.update(len(batch))
    finally:
        writer.policy.train(training)
    ordered = [answers[place] for place in places]
    return [ordered[start : start + n] for start in range(0, len(ordered), n)]


def _load(policy: Any, hub: dict[str, Any], model_kwargs: dict[str, Any]) -> PreTrainedModel:
    if isinstance(policy, (str, os.PathLike)):
        policy = AutoModelForCausalLM.from_pretrained(policy, **hub, **model_kwargs).eval()
    elif model_kwargs:
        raise ValueError(f"{sorted(model_kwargs)} are for loading a policy by name, but `policy` is an instance.")
    if not policy.can_generate() or policy.config.is_encoder_decoder:
        raise ValueError(f"`policy` must be a decoder that generates, got {type(policy).__name__}.")
    return policy


def _build_warpers(temperature: float, top_k: int | None, top_p: float) -> LogitsProcessorList:
    """As transformers orders them."""
    warpers = LogitsProcessorList()
    if temperature not in (0, 1):
        warpers.append(TemperatureLogitsWarper(float(temperature)))
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    return warpers


def _encode(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, number: int) -> list[int]:
    where = f"`prompts[{number}]`"
    if isinstance(prompt, str):
        if not prompt.strip():
            raise ValueError(f"{where} is empty.")
        # a text that a chat template wrote has it already; twice is not what the model has seen
        has_bos = bool(tokenizer.bos_token) and prompt.startswith(tokenizer.bos_token)
        return list(tokenizer(prompt, add_special_tokens=not has_bos)["input_ids"])
    if not prompt or not all(isinstance(message, dict) and "role" in message for message in prompt):
        raise ValueError(f"{where} must be a text, or messages with role and content; got {prompt!r}.")
    if prompt[-1]["role"] not in ("user", "tool"):
        raise ValueError(f"{where} ends with the turn of {prompt[-1]['role']}; an answer follows a user or a tool.")
    if not tokenizer.chat_template:
        raise ValueError(
            "the policy's tokenizer has no chat template, so messages cannot be written as text. Set "
            "`tokenizer.chat_template` and pass `tokenizer`, or pass prompts as texts."
        )
    messages = [_drop_nulls(message) for message in prompt]
    return list(tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"])


def _drop_nulls(message: dict[str, Any]) -> dict[str, Any]:
    """Tables have a null where another row's message has a key. A template would take the key for given."""
    return {key: value for key, value in message.items() if value is not None}


def _check_room(policy: PreTrainedModel, encoded: list[list[int]], max_new_tokens: int):
    # beyond its positions a model writes nonsense, or fails in the middle of a run
    limit = getattr(policy.config.get_text_config(), "max_position_embeddings", None)
    for number, ids in enumerate(encoded):
        if limit is not None and len(ids) + max_new_tokens > limit:
            raise ValueError(
                f"`prompts[{number}]` has {len(ids)} tokens; with max_new_tokens={max_new_tokens} that is more than "
                f"the policy's {limit} positions."
            )


def _check_settings(n, max_new_tokens, temperature, top_p, top_k, seed, batch_size):
    least = {
        "n": n,
        "max_new_tokens": max_new_tokens,
        "batch_size": batch_size,
        "top_k": 1 if top_k is None else top_k,
    }
    for name, value in least.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` must be a positive whole number, got {value!r}.")
    if not isinstance(seed, int) or seed < 0:
        raise ValueError(f"`seed` must be a whole number and not negative, got {seed!r}.")
    if not 0 < top_p <= 1:
        raise ValueError(f"`top_p` must lie in (0, 1], got {top_p}.")
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"`temperature` must be finite and not negative, got {temperature}.")
    if temperature == 0 and n > 1:
        raise ValueError(f"`temperature=0` gives one answer {n} times; give a positive one, or n=1.")
