"""Batches of token ids, padded on the right."""

from collections.abc import Sequence

import torch


def pad_batch(sequences: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """
    Args:
        sequences (`Sequence[Sequence[int]]`): the ids of B sequences, of which the longest has T.
        pad_token_id (`int`): what fills the rows up.

    Returns:
        `dict[str, Tensor]`: `input_ids` and `attention_mask`, (B, T) each.
    """
    longest = max(map(len, sequences))
    ids = torch.full((len(sequences), longest), pad_token_id)
    mask = torch.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.as_tensor(sequence)
        mask[row, : len(sequence)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def pad_token_id(tokenizer) -> int:
    """The id to pad with. With masks any id will do: the end of a conversation is read from the mask."""
    for value in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if value is not None:
            return value
    return 0
