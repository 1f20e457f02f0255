"""The one way from a row to the ids that a model gets: read, encoded, held against the model's vocabulary, cut."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from urm_hf.data.conversations import check_truncation, limit_length, read_conversation
from urm_hf.data.errors import RowError
from urm_hf.data.rendering import check_vocabulary
from urm_hf.data.template_dates import check_dates

LONGEST = 4096  # tokens, unless a model has fewer positions, or somebody asks for more


@dataclass(frozen=True)
class Encoded:
    """
    Args:
        ids (`list[int]`, *optional*): token ids; None if the conversation is too long and is to be dropped.
        cut (`bool`): whether it was too long.
    """

    ids: list[int] | None
    cut: bool


@dataclass(frozen=True)
class Encoder:
    """
    Args:
        tokenizer (`PreTrainedTokenizerBase`): with a chat template, unless all is text.
        max_length (`int`, *optional*): longest conversation in tokens.
        truncation (`str`, *optional*, defaults to `"error"`): "error", "left", "right" or "drop"; what happens beyond.
        vocab_size (`int`, *optional*): embeddings of the model; ids beyond are an error of the row.
        reward_token (`int`, *optional*): what the model wants after each conversation, where it reads the reward.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int | None = None
    truncation: str = "error"
    vocab_size: int | None = None
    reward_token: int | None = None

    def __post_init__(self):
        check_truncation(self.truncation)
        check_dates(self.tokenizer)

    def encode(self, conversation: Any, answer_column: str | None = None) -> Encoded:
        """
        The ids of a conversation in any form that [`read_conversation`] reads.

        Raises:
            RowError: it cannot be read, encoded or held.
        """
        return self.hold(read_conversation(conversation, answer_column).encode(self.tokenizer))

    def encode_rows(self, conversations: Iterable[Any], first_row: int = 0) -> Iterator[Encoded]:
        """
        What `encode` gives for each, one after the other.

        Args:
            conversations (`Iterable`): in any form that [`read_conversation`] reads.
            first_row (`int`, *optional*, defaults to 0): the number that an error gives the first.

        Raises:
            RowError: as of `encode`; the row is named.
        """
        for number, conversation in enumerate(conversations, start=first_row):
            try:
                yield self.encode(conversation)
            except RowError as error:
                raise error.at(f"row {number}", row=number) from error

    def hold(self, ids: list[int]) -> Encoded:
        """Ids as the model takes them: a RowError if it has no embedding for one, or no room for all."""
        if self.vocab_size is not None:
            # a padding token that was added to the tokenizer alone would be an index error on the GPU
            check_vocabulary(ids, self.vocab_size)
        end = [] if self.reward_token is None else [self.reward_token]
        room = None if self.max_length is None else self.max_length - len(end)
        kept = limit_length(ids, room, self.truncation)
        cut = kept is None or len(kept) < len(ids)
        return Encoded(None if kept is None else [*kept, *end], cut)


def positions_of(config: PretrainedConfig) -> int | None:
    """How many tokens a model has positions for; None where it does not say."""
    return _read(config, "max_position_embeddings")


def embeddings_of(config: PretrainedConfig) -> int | None:
    """How many token ids a model has embeddings for."""
    return _read(config, "vocab_size")


def reward_token_of(config: PretrainedConfig) -> int | None:
    """The token that a model reads its reward at, as InternLM2's do; None of those that read the last one there is."""
    return _read(config, "reward_token_id")


def check_max_length(max_length: int | None, config: PretrainedConfig):
    """A ValueError if a model has no positions for so many tokens."""
    positions = positions_of(config)
    if max_length is not None and positions is not None and max_length > positions:
        raise ValueError(
            f"`max_length` is {max_length}, but the model has positions for {positions} tokens; set it to {positions} "
            "or less."
        )


def _read(config: PretrainedConfig, name: str) -> int | None:
    """A number of the model, or of the text part of a model of several modalities."""
    value = getattr(config, name, None)
    return getattr(config.get_text_config(), name, None) if value is None else value
