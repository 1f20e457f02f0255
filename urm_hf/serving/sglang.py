"""
SGLang as the engine: it runs the backbone, and the heads, a few megabytes, are read here.

SGLang's `/v1/score` gives for a classifier of one of its own architectures the pooled hidden states before its head
(`return_pooled_hidden_states`); a URM and an ensemble on one backbone need nothing else. `export_backbone` writes a
backbone as such a classifier, `SglangScorer` has the interface of `RewardScorer`.
"""

import copy
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import requests
import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES

from urm_hf.checkpoints.files import appears_whole, write_shards
from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.data.encoder import Encoder, embeddings_of, positions_of
from urm_hf.data.errors import RowError
from urm_hf.data.several import check_several
from urm_hf.scores import RewardScore
from urm_hf.scoring.remote import ServerError
from urm_hf.scoring.scorer import NonFiniteScores
from urm_hf.serving.vllm.engine_scorer import DescribedModel, read_vectors
from urm_hf.serving.vllm.heads import MemberHeads
from urm_hf.serving.vllm.served import ServedModel, read_served_model
from urm_hf.serving.vllm.weights import read_backbone, read_heads

ROWS_AT_ONCE = 64  # conversations of one request


def export_backbone(model: str, output_dir: str | Path, revision: str | None = None):
    """
    Writes the backbone that a URM or the members of an ensemble have as a classifier that SGLang serves. Its head of
    one label is zero: nothing reads it.

    Args:
        model (`str`): repository or folder.
        output_dir (`str` or `Path`): a new or empty folder.
        revision (`str`, *optional*): commit, branch or tag.

    Raises:
        ValueError: weights are missing, members have unlike backbones or are adapters, or there is no such classifier.
    """
    served = _read_served(model, revision)
    config = copy.deepcopy(served.configs[0].backbone_config)
    architecture = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES.get(config.model_type)
    if architecture is None:
        raise ValueError(f"there is no classifier on a backbone of type {config.model_type!r} for SGLang to serve.")
    config.architectures, config.num_labels = [architecture], 1
    with appears_whole(output_dir) as folder:
        tensors = dict(read_backbone(served))
        dtype = next(iter(tensors.values())).dtype
        tensors["score.weight"] = torch.zeros(1, config.hidden_size, dtype=dtype)
        write_shards(folder, tensors, lambda key: tensors[key])
        config.dtype = dtype
        config.save_pretrained(folder)
        name, place = served.tokenizer_place
        load_chat_tokenizer(name, **place.kwargs()).save_pretrained(folder)


class SglangScorer:
    """
    Scores conversations with a backbone in SGLang and the heads in this process.

    Args:
        url (`str`): of SGLang's server, which has what `export_backbone` wrote.
        model (`str`): repository or folder of the URM or ensemble.
        revision (`str`, *optional*): commit, branch or tag.
        token (`str`, *optional*): SGLang's `--api-key`.
        max_length (`int`, *optional*): longest conversation in tokens. By default what the model's positions allow.
        timeout (`float`, *optional*, defaults to 600): seconds for one answer.

    Raises:
        ValueError: weights are missing, or members have unlike backbones or are adapters.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        revision: str | None = None,
        token: str | None = None,
        max_length: int | None = None,
        timeout: float = 600.0,
    ):
        self.url, self.timeout = url.rstrip("/"), timeout
        self.served = _read_served(model, revision)
        self.attributes: list[str] | None = list(self.served.configs[0].attributes)
        self.is_ensemble = self.served.ensemble is not None
        name, place = self.served.tokenizer_place
        self.tokenizer = load_chat_tokenizer(name, **place.kwargs())
        config = self.served.configs[0]
        self.encoder = Encoder(self.tokenizer, max_length or positions_of(config), "error", embeddings_of(config))
        self.heads = MemberHeads(self.served).eval()
        for head, state in zip(self.heads.members, read_heads(self.served), strict=True):
            head.load_state_dict(state)
        losses = [config.attribute_loss for config in self.served.configs]
        self._described = DescribedModel(self.served.ensemble or config, losses, torch.float32)
        self._session = requests.Session()
        if token is not None:
            self._session.headers["Authorization"] = f"Bearer {token}"

    def __call__(self, conversations: Iterable[Any]) -> list[RewardScore]:
        """The same as [`~SglangScorer.score`]."""
        return self.score(conversations)

    @torch.inference_mode()
    def score(self, conversations: Iterable[Any]) -> list[RewardScore]:
        """
        One score for each conversation, in their order.

        Args:
            conversations (`Iterable`): as of [`RewardScorer.score`].

        Raises:
            RowError: a row cannot be encoded or is too long, or its reward is not finite; the row is named.
            ServerError: SGLang does not answer, or without hidden states.
        """
        sequences: list[list[int]] = []
        for row, encoded in enumerate(self.encoder.encode_rows(check_several(conversations))):
            sequences.append(encoded.ids or [])
            if len(sequences[-1]) < 2:
                raise RowError(f"row {row}: SGLang takes a query and an item, that is two tokens or more.", row=row)
        hidden = self._ask(sequences)
        scores: list[RewardScore] = []
        for row, (ids, vector) in enumerate(zip(sequences, hidden, strict=True)):
            result = read_vectors(self.served, self._described, [self.heads(vector[None], [0])[0]], len(ids))
            if not isinstance(result, RewardScore):
                raise NonFiniteScores(f"row {row}: {result}", row=row, indices=[row])
            scores.append(result)
        return scores

    def _ask(self, sequences: Sequence[list[int]]) -> list[Tensor]:
        """The pooled hidden state (H,) of each; SGLang joins a query, here the first token, and items to prompts."""
        hidden: list[Tensor] = [torch.empty(0)] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda row: sequences[row][0])
        for first, group in groupby(order, key=lambda row: sequences[row][0]):
            rows = list(group)
            for start in range(0, len(rows), ROWS_AT_ONCE):
                chunk = rows[start : start + ROWS_AT_ONCE]
                states = self._post([first], [sequences[row][1:] for row in chunk])
                for row, state in zip(chunk, states, strict=True):
                    hidden[row] = torch.tensor(state, dtype=torch.float32)
        return hidden

    def _post(self, query: list[int], items: list[list[int]]) -> list[list[float]]:
        body: Any = {"query": query, "items": items, "return_pooled_hidden_states": True}
        try:
            answer = self._session.post(f"{self.url}/v1/score", json=body, timeout=self.timeout)
        except requests.RequestException as error:
            raise ServerError(
                f"{self.url} does not answer ({type(error).__name__}): is SGLang running there?"
            ) from None
        try:
            states = answer.json().get("pooled_hidden_states") if answer.status_code == 200 else None
        except (ValueError, AttributeError):
            states = None
        width = self.served.configs[0].hidden_size
        if not isinstance(states, list) or [len(state or ()) for state in states] != [width] * len(items):
            raise ServerError(
                f"{self.url}/v1/score answered {answer.status_code} without {len(items)} hidden states of size "
                f"{width}: serve what `export_backbone` wrote there, with an SGLang that knows "
                "`return_pooled_hidden_states`."
            )
        return states


def _read_served(model: str, revision: str | None) -> ServedModel:
    served = read_served_model(model, revision)
    if served.has_adapters:
        raise ValueError(f"{model} has adapters: SGLang would need one backbone for each. Merge them first.")
    return served
