"""`RewardScorer`'s interface over an engine that answers with vectors: the same ids, fields and errors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from urm_hf.data.encoder import Encoder, embeddings_of
from urm_hf.data.errors import RowError
from urm_hf.modeling.output_urm_ensemble import combine
from urm_hf.scores import RewardScore, model_rows
from urm_hf.serving.batching import NotFinite, Result
from urm_hf.serving.vllm.served import ServedModel

Ask: TypeAlias = Callable[[list[int], int], Awaitable[Tensor]]  # the vector of token ids, by the number of a member


@dataclass(frozen=True)
class DescribedModel:
    """What routes ask of a model: its config, by which of losses its members were trained, and its dtype."""

    config: PretrainedConfig
    attribute_losses: list[str | None]
    dtype: torch.dtype


class EngineScorer:
    """
    Args:
        served ([`ServedModel`]): the model.
        tokenizer (`PreTrainedTokenizerBase`): its tokenizer.
        ask (`Callable`): asks the engine.
        max_length (`int`, *optional*): longest conversation in tokens.
        dtype (`torch.dtype`): of the backbone.

    Attributes:
        loop (`AbstractEventLoop`, *optional*): where `ask` runs, for callers of `score` in other threads.
    """

    truncation = "error"

    def __init__(
        self,
        served: ServedModel,
        tokenizer: PreTrainedTokenizerBase,
        ask: Ask,
        max_length: int | None,
        dtype: torch.dtype = torch.float32,
    ):
        self.served, self.tokenizer, self.ask, self.max_length = served, tokenizer, ask, max_length
        self.attributes: list[str] | None = list(served.configs[0].attributes)
        losses = [config.attribute_loss for config in served.configs]
        self.model = DescribedModel(served.ensemble or served.configs[0], losses, dtype)
        self.encoder = Encoder(tokenizer, max_length, self.truncation, embeddings_of(served.configs[0]))
        self.loop: asyncio.AbstractEventLoop | None = None

    async def compute(self, sequences: Sequence[Sequence[int]]) -> list[Result]:
        """
        A score for each sequence of token ids, or an error where its reward is not finite.

        Args:
            sequences (`Sequence[Sequence[int]]`): as the encoder gave them.
        """
        return list(await asyncio.gather(*[self._compute_one(list(ids)) for ids in sequences]))

    async def _compute_one(self, ids: list[int]) -> Result:
        asked = range(self.served.members if self.served.has_adapters else 1)
        vectors = await asyncio.gather(*[self.ask(ids, member) for member in asked])
        return read_vectors(self.served, self.model, vectors, len(ids))

    def score(self, conversations: Iterable[Any]) -> list[RewardScore]:
        """
        As [`RewardScorer.score`], from any thread but that of the engine's loop.

        Raises:
            RowError: a row cannot be encoded, or its reward is not finite.
        """
        assert self.loop is not None
        sequences = [encoded.ids or [] for encoded in self.encoder.encode_rows(conversations)]
        results = asyncio.run_coroutine_threadsafe(self.compute(sequences), self.loop).result()
        scores: list[RewardScore] = []
        for row, result in enumerate(results):
            if not isinstance(result, RewardScore):
                raise RowError(f"row {row}: {result}", row=row)
            scores.append(result)
        return scores


def read_vectors(served: ServedModel, model: DescribedModel, vectors: Sequence[Tensor], n_tokens: int) -> Result:
    """
    The score of one conversation.

    Args:
        served ([`ServedModel`]): the model.
        model ([`DescribedModel`]): the same, as it is described to routes.
        vectors (`Sequence[Tensor]`): of adapters one of each member, else one; each (size,).
        n_tokens (`int`): of the conversation.
    """
    stacked = torch.stack([vector.detach().float().cpu().flatten() for vector in vectors])
    if not torch.isfinite(stacked).all():
        return NotFinite()
    outputs = [output for row in stacked for output in served.layout.unpack(row[None])]
    output = outputs[0] if served.ensemble is None else combine(outputs, served.ensemble)
    (score,) = model_rows(model, output, served.configs[0].attributes, served.levels)
    return RewardScore(**score, n_tokens=n_tokens, truncated=False)
