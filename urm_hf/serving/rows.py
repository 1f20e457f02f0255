"""From what a request holds to token ids, row by row: one that cannot be read is an error of its own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from transformers import PreTrainedTokenizerBase

from urm_hf.data.content import says_nothing
from urm_hf.data.conversations import Conversation, read_conversation
from urm_hf.data.encoder import Encoder, embeddings_of, positions_of, reward_token_of
from urm_hf.data.errors import RowError, as_row_error, telling_rows
from urm_hf.data.rendering import encode_turns
from urm_hf.modeling.modeling_urm_ensemble import URMEnsemble
from urm_hf.scoring.scorer import RewardScorer

Row: TypeAlias = Conversation | RowError


@dataclass
class Rows:
    """
    The conversations of a request.

    Args:
        ids (`list[list[int]]`): of each its ids; empty where it has none.
        cut (`list[bool]`): whether each was truncated.
        errors (`dict[int, RowError]`): what is wrong with those that have no ids, by their numbers.
    """

    ids: list[list[int]] = field(default_factory=list)
    cut: list[bool] = field(default_factory=list)
    errors: dict[int, RowError] = field(default_factory=dict)


def build_encoder(scorer: RewardScorer) -> Encoder:
    """
    The scorer's own encoder, with the bounds of an ensemble's members where the ensemble does not know them: an id
    without an embedding is an index error, which on a GPU ends the process.
    """
    configs = [scorer.model.config]
    if isinstance(scorer.model, URMEnsemble):
        configs = [member.config for member in scorer.model.iter_members()]
    sizes = [size for config in configs if (size := embeddings_of(config)) is not None]
    lengths = [length for config in configs if (length := positions_of(config)) is not None]
    longest = min(lengths, default=None) if scorer.max_length is None else scorer.max_length
    token = reward_token_of(scorer.model.config)
    return Encoder(scorer.tokenizer, longest, scorer.truncation, min(sizes, default=None), token)


def encode_rows(encoder: Encoder, rows: Iterable[Row], encode: Callable[[Conversation], list[int]]) -> Rows:
    """
    Args:
        encoder ([`Encoder`]): holds ids against the model's bounds.
        rows (`Iterable`): conversations, and errors in place of those that could not be read.
        encode (`Callable`): the ids of a conversation.
    """
    result = Rows()
    for number, row in enumerate(rows):
        try:
            if isinstance(row, RowError):
                raise row
            with telling_rows():
                encoded = encoder.hold(encode(row))
            result.ids.append(encoded.ids or [])
            result.cut.append(encoded.cut)
        except RowError as error:
            result.errors[number] = error
            result.ids.append([])
            result.cut.append(False)
    return result


def read_rows(values: Sequence[Any], read: Callable[[Any], Row] = read_conversation) -> list[Row]:
    """The conversation of each value, or what is wrong with it."""
    rows: list[Row] = []
    for value in values:
        try:
            rows.append(read(value))
        except Exception as error:
            rows.append(as_row_error(error))
    return rows


def encode_unanswered(tokenizer: PreTrainedTokenizerBase, conversation: Conversation) -> list[int]:
    """
    Ids also of turns that end without an answer, which no data set may hold.

    A policy may answer nothing, or stop at a tool's output, and is told what the model thinks of it.
    """
    turns = list(conversation.turns or ())
    if not turns or (turns[-1].get("role") == "assistant" and not says_nothing(turns[-1:])):
        return conversation.encode(tokenizer)
    return encode_turns(tokenizer, turns, conversation.tools, conversation.chat_template_kwargs)
