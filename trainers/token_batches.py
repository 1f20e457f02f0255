"""
Batches by tokens, not by rows: rows that begin alike stay together, so that a pack computes what they share once.

Which rows go together is drawn once, from the seed; each epoch has the same batches in an order of its own. An epoch
then has a number of steps that is known in advance, and a run that is resumed finds the batches that it left.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from urm_hf.scoring.engine.prefixes import prefix_order, worth_sharing

Row = Sequence[Sequence[int]]  # the token ids of its conversations: of one that is rated, or of the two of a pair
ALIKE = 0.5  # of the shorter's tokens, beyond those that all rows begin with: rows of one prompt share as much


class TokenBatches(Sampler[list[int]]):
    """
    Args:
        rows (`Sequence[Sequence[Sequence[int]]]`): of each row the token ids of its conversations.
        max_tokens (`int`): of a batch.
        packing (`str`): "tree" counts common prefixes once, "flat" all tokens, "none" the padding too.
        seed (`int`): of which rows go together, and of the order in each epoch.
        num_processes, process_index (`int`, *optional*): this process gets every `num_processes`-th batch.

    Raises:
        ValueError: a row has more than `max_tokens`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        max_tokens: int,
        packing: str,
        seed: int,
        num_processes: int = 1,
        process_index: int = 0,
    ):
        self.seed, self.epoch = seed, 0
        self.num_processes, self.process_index = num_processes, process_index
        self.batches = divide_evenly(fill_batches(rows, max_tokens, packing, seed), num_processes)

    def set_epoch(self, epoch: int) -> None:
        """Which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.batches) // self.num_processes

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng([self.seed, 1 + self.epoch]).permutation(len(self.batches))
        for place in order[self.process_index :: self.num_processes]:
            yield self.batches[place]


def group_alike(rows: Sequence[Row]) -> list[list[int]]:
    """
    Rows that share most of what they could: those of one prompt, whose answers follow a long common beginning.

    Args:
        rows (`Sequence[Sequence[Sequence[int]]]`): of each row the token ids of its conversations.

    Returns:
        `list[list[int]]`: the numbers of the rows, in groups, each row in one.
    """
    order, shared = prefix_order([row[0] for row in rows])
    # what all begin with, a system prompt or the template's first tokens, says nothing of a row
    everywhere = min(shared[1:], default=0)
    groups: list[list[int]] = []
    for place, (row, common) in enumerate(zip(order, shared, strict=True)):
        shorter = min(len(rows[row][0]), len(rows[order[place - 1]][0]))
        if groups and common - everywhere >= max(1, ALIKE * (shorter - everywhere)):
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def fill_batches(rows: Sequence[Row], max_tokens: int, packing: str, seed: int) -> list[list[int]]:
    """
    Batches of whole groups in random order; a group that does not fit is continued in the next.

    Args:
        rows, max_tokens, packing, seed: see [`TokenBatches`].

    Raises:
        ValueError: a row has more than `max_tokens`.
    """
    for number, row in enumerate(rows):
        tokens = _Batch(packing).tokens_with(row)
        if tokens > max_tokens:
            raise ValueError(
                f"row {number} of those that train takes {tokens} tokens, more than `max_tokens_per_step` "
                f"({max_tokens}). Raise it, or lower `max_length` and say with `truncation` what to cut."
            )
    groups = group_alike(rows)
    batches: list[list[int]] = []
    batch = _Batch(packing)
    for group in np.random.default_rng([seed, 0]).permutation(len(groups)):
        for number in groups[group]:
            if batch.tokens_with(rows[number]) > max_tokens:
                batches.append(batch.rows)
                batch = _Batch(packing)
            batch.add(number, rows[number])
    return [*batches, batch.rows] if batch.rows else batches


def divide_evenly(batches: list[list[int]], processes: int) -> list[list[int]]:
    """
    A multiple of `processes` batches: the largest are halved. Where all have one row, the first come once more, as
    accelerate does it with batches of rows.
    """
    batches = list(batches)
    while len(batches) % processes:
        largest = max(range(len(batches)), key=lambda place: len(batches[place]))
        rows = batches[largest]
        if len(rows) == 1:
            batches += batches[: -len(batches) % processes]
            continue
        half = len(rows) // 2
        batches[largest : largest + 1] = [rows[:half], rows[half:]]
    return batches


class _Batch:
    """Rows, and what they take."""

    def __init__(self, packing: str):
        self.packing, self.rows = packing, list[int]()
        self.tokens, self.longest, self.conversations = 0, 0, 0
        self.before: Sequence[int] = []  # the first conversation of the last row

    def tokens_with(self, row: Row) -> int:
        """The tokens of the batch with one more row; of trees, what is shared beyond neighboring rows not deducted."""
        if self.packing == "none":
            return (self.conversations + len(row)) * max(self.longest, *map(len, row))
        tokens = self.tokens + sum(map(len, row))
        if self.packing == "tree":
            tokens -= sum(_shared(one, other) for one, other in zip([self.before, *row], row, strict=False))
        return tokens

    def add(self, number: int, row: Row) -> None:
        self.tokens = self.tokens_with(row)
        self.longest = max(self.longest, *map(len, row))
        self.conversations += len(row)
        self.rows.append(number)
        self.before = row[0]


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """The tokens that a pack computes once for both."""
    common = prefix_order([one, other])[1][1]
    return worth_sharing([max(len(one), len(other))], [common])[0]
