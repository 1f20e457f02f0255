"""Batches of token ids: sorted by length, bounded by their padded number of tokens, padded on the right."""

from collections.abc import Iterator, Sequence

import torch


def token_batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """
    Indices in batches, longest first, so that len(batch) * (its longest length) <= max_tokens.

    A sequence that is longer than `max_tokens` by itself makes a batch of one.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    start = 0
    while start < len(order):
        size = max(1, max_tokens // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size


def pad_batch(sequences: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, (B, T) each."""
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
