"""Batches of token ids."""

from types import SimpleNamespace

import pytest
import torch

from urm_hf.scoring.engine.batches import PaddedBatches, Plan
from urm_hf.scoring.engine.padding import pad_batch, pad_token_id

GENERATOR = torch.Generator().manual_seed(0)
LENGTHS = torch.randint(1, 200, (300,), generator=GENERATOR).tolist()


def token_batches(lengths: list[int], budget: int) -> list[list[int]]:
    """The indices in the batches that sequences of these lengths get."""
    sequences = [[number] * length for number, length in enumerate(lengths)]
    batches, stops = PaddedBatches(Plan.of(sequences), [], 0), [0]
    while stops[-1] < len(lengths):
        stops.append(batches.end(stops[-1], budget))
    return [batches.order[start:stop] for start, stop in zip(stops, stops[1:])]


BUDGETS = pytest.mark.parametrize("budget", [1, 150, 199, 1000, 10**6])


@BUDGETS
def test_every_index_is_in_one_batch(budget):
    assert sorted(index for batch in token_batches(LENGTHS, budget) for index in batch) == list(range(300))


@BUDGETS
def test_the_padded_tokens_of_a_batch_stay_within_the_budget(budget):
    for batch in token_batches(LENGTHS, budget):
        assert len(batch) == 1 or len(batch) * max(LENGTHS[index] for index in batch) <= budget


@BUDGETS
def test_longer_sequences_come_first(budget):
    lengths = [LENGTHS[index] for batch in token_batches(LENGTHS, budget) for index in batch]
    assert lengths == sorted(LENGTHS, reverse=True)


def test_batches_are_as_full_as_the_budget_allows():
    assert [len(batch) for batch in token_batches([10] * 25, 100)] == [10, 10, 5]


def test_a_sequence_over_the_budget_is_a_batch_of_its_own():
    assert token_batches([3, 50, 4], 8) == [[1], [2, 0]]


def test_no_sequences_make_no_batch():
    assert token_batches([], 8) == []


def test_a_batch_is_padded_on_the_right_and_masked():
    batch = pad_batch([[5, 6, 7], (8,)], 9)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 7], [8, 9, 9]],
        "attention_mask": [[1, 1, 1], [1, 0, 0]],
    }
    assert {tensor.dtype for tensor in batch.values()} == {torch.long}


def test_a_token_equal_to_the_padding_is_not_masked():
    assert pad_batch([[9, 9], [9]], 9)["attention_mask"].tolist() == [[1, 1], [1, 0]]


@pytest.mark.parametrize("pad, eos, expected", [(3, 4, 3), (0, 4, 0), (None, 4, 4), (None, 0, 0), (None, None, 0)])
def test_padding_is_by_pad_else_eos_else_any_token(pad, eos, expected):
    assert pad_token_id(SimpleNamespace(pad_token_id=pad, eos_token_id=eos)) == expected
