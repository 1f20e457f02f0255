"""
What token sequences have in common, and how to lay them out so that common prefixes are computed once.

In lexicographic order, what a sequence shares with all before it is what it shares with the one directly before. So
any run of neighbours can be written as their own tokens one after the other, each sequence branching off from the one
before: a prefix tree without a tree. The only tokens computed twice are those shared across the cuts between runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Span = tuple[int, int]
LEAST_SHARED = 8  # tokens; fewer are computed again rather than gathered
LEAST_SHARE = 1 / 32  # of the sequence: what attention with a mask costs more than attention without
LEAST_FILL = 0.6  # of a pack, before it may be cut where little is shared


@dataclass(frozen=True)
class Pack:
    """
    A run of N sequences as T tokens, each token of a shared prefix once.

    Args:
        tokens, positions: T ids, and the position of each in its sequences.
        last: where the last token of each of the N sequences is.
        queries: spans of neighbouring tokens and, for each, the spans of its path: all tokens that come before it in
            its sequence, in their order, and then itself.
    """

    tokens: list[int]
    positions: list[int]
    last: list[int]
    queries: list[tuple[Span, list[Span]]]


def prefix_order(sequences: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Indices in lexicographic order, and of each in this order the number of tokens shared with the one before."""
    arrays = [np.asarray(sequence, dtype=">u4") for sequence in sequences]  # big-endian: bytes sort as numbers do
    order = sorted(range(len(arrays)), key=lambda index: arrays[index].tobytes())
    shared = [0] * len(order)
    for place in range(1, len(order)):
        before, here = arrays[order[place - 1]], arrays[order[place]]
        common = min(len(before), len(here))
        different = np.flatnonzero(before[:common] != here[:common])
        shared[place] = int(different[0]) if len(different) else common
    return order, shared


def worth_sharing(lengths: Sequence[int], shared: Sequence[int]) -> list[int]:
    """`shared`, with 0 where a prefix is too short to be worth it."""
    return [
        count if count >= LEAST_SHARED and count >= LEAST_SHARE * length else 0
        for length, count in zip(lengths, shared, strict=True)
    ]


def next_cut(lengths: Sequence[int], shared: Sequence[int], start: int, max_tokens: int) -> int:
    """
    Where the run that begins at `start` ends: at most `max_tokens` tokens, or one sequence, if that is longer.

    Of the places that leave it well filled, the one across which the fewest tokens are shared.
    """
    tokens = lengths[start]
    stop, fewest = start + 1, None
    for place in range(start + 1, len(lengths)):
        if fewest is None or shared[place] <= fewest:
            stop, fewest = place, shared[place] if tokens >= LEAST_FILL * max_tokens else None
        tokens += lengths[place] - shared[place]
        if tokens > max_tokens:
            return stop
    return len(lengths)


def pack(sequences: Sequence[Sequence[int]], shared: Sequence[int], block: int = 256) -> Pack:
    """
    Lays out a run of neighbours.

    Args:
        shared: the number of tokens that each takes from the path of the one before; of the first it is not read.
        block: most tokens of one span of `queries`, except in sequences that share nothing with those before.
    """
    tokens: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    queries: list[tuple[Span, list[Span]]] = []
    path: list[Span] = []
    for number, sequence in enumerate(sequences):
        common = shared[number] if number else 0
        path = _first_tokens(path, common)
        size = block if common else len(sequence)
        for position in range(common, len(sequence), size):
            start = len(tokens)
            tokens += sequence[position : position + size]
            path = _extended(path, (start, len(tokens)))
            queries.append(((start, len(tokens)), path))
        positions += range(common, len(sequence))
        last.append(len(tokens) - 1)
    return Pack(tokens, positions, last, queries)


def _first_tokens(path: list[Span], count: int) -> list[Span]:
    taken = []
    for start, stop in path:
        if count <= 0:
            break
        taken.append((start, min(stop, start + count)))
        count -= stop - start
    return taken


def _extended(path: list[Span], span: Span) -> list[Span]:
    if path and path[-1][1] == span[0]:
        return [*path[:-1], (path[-1][0], span[1])]
    return [*path, span]
