"""
What token sequences have in common, and how to lay them out so that common prefixes are computed once.

In lexicographic order, what a sequence shares with all before it is what it shares with the one directly before. So
any run of neighbors can be written as their own tokens one after the other, each sequence branching off from the one
before: a prefix tree without a tree. The only tokens computed twice are those shared across the cuts between runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
        tokens (`list[int]`): T ids.
        positions (`list[int]`): the position of each in its sequences.
        last (`list[int]`): where the last token of each of the N sequences is.
        queries (`list`): spans of neighboring tokens and, for each, the spans of its path: all tokens that come before
            it in its sequence, in their order, and then itself. Paths count tokens that are known before the pack's.
    """

    tokens: list[int]
    positions: list[int]
    last: list[int]
    queries: list[tuple[Span, list[Span]]]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each of the N sequences."""
        return [self.positions[place] + 1 for place in self.last]


def as_bytes(sequence: Sequence[int]) -> bytes:
    """Token ids as bytes that sort as they do."""
    return np.asarray(sequence, dtype=">u4").tobytes()  # big-endian


def count_common(one: bytes, other: bytes) -> int:
    """Tokens that two results of `as_bytes` have in common from their beginning on."""
    length = min(len(one), len(other)) // 4
    first, second = (np.frombuffer(key, dtype=">u4", count=length) for key in (one, other))
    different = np.flatnonzero(first != second)
    return int(different[0]) if len(different) else length


def prefix_order(sequences: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """
    Args:
        sequences (`Sequence[Sequence[int]]`): the token ids of N sequences.

    Returns:
        `tuple[list[int], list[int]]`: N indices in lexicographic order, and of each in this order the number of tokens
        shared with the one before.
    """
    keys = [as_bytes(sequence) for sequence in sequences]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    shared = [0] * len(order)
    for place in range(1, len(order)):
        shared[place] = count_common(keys[order[place - 1]], keys[order[place]])
    return order, shared


def worth_sharing(lengths: Sequence[int], shared: Sequence[int]) -> list[int]:
    """`shared`, with 0 where a prefix is too short to be worth it."""
    least = [max(LEAST_SHARED, LEAST_SHARE * length) for length in lengths]
    return [count if count >= worth else 0 for count, worth in zip(shared, least, strict=True)]


def next_cut(lengths: Sequence[int], shared: Sequence[int], start: int, max_tokens: int) -> int:
    """
    Where the run that begins at `start` ends: at most `max_tokens` tokens, or one sequence, if that is longer.

    Of the places that leave it well filled, the one across which the fewest tokens are shared, for these are computed
    twice.

    Args:
        lengths (`Sequence[int]`): of the sequences in the order of prefixes, in tokens.
        shared (`Sequence[int]`): of each, the tokens shared with the one before.
        start (`int`): where the run begins.
        max_tokens (`int`): its most tokens.
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


def pack(
    sequences: Sequence[Sequence[int]],
    shared: Sequence[int],
    block: int = 256,
    taken: Sequence[Span] | None = None,
) -> Pack:
    """
    Lays out a run of neighbors.

    Args:
        sequences (`Sequence[Sequence[int]]`): the token ids of N sequences, in the order of prefixes.
        shared (`Sequence[int]`): the number of tokens that each takes from the path of the one before; of the first it
            is not read.
        block (`int`, *optional*, defaults to 256): most tokens of one span of `queries`, except in sequences that
            share nothing with those before.
        taken (`Sequence[tuple[int, int]]`, *optional*): of each sequence, where its first tokens stand among those
            that are known already and come before the pack's own in every path; an empty span for most.

    Returns:
        [`Pack`]: the N sequences, without the tokens that are known.
    """
    known = max((stop for _, stop in taken), default=0) if taken else 0
    tokens: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    queries: list[tuple[Span, list[Span]]] = []
    path: list[Span] = []
    for number, sequence in enumerate(sequences):
        common = shared[number] if number else 0
        path = take_first(path, common)
        if taken and taken[number][0] < taken[number][1]:
            path, common = [taken[number]], taken[number][1] - taken[number][0]
        # a span behind others needs a mask of its tokens x its path, which blocks keep small; without a mask there is
        # nothing to keep small
        size = block if common else len(sequence)
        for position in range(common, len(sequence), size):
            start = len(tokens)
            tokens += sequence[position : position + size]
            path = _extend(path, (known + start, known + len(tokens)))
            queries.append(((start, len(tokens)), path))
        positions += range(common, len(sequence))
        last.append(len(tokens) - 1)
    return Pack(tokens, positions, last, queries)


def pack_rows(sequences: Sequence[Sequence[int]], *, share: bool) -> Pack:
    """
    Lays out sequences in any order; the pack tells of each, in that order, where it ends.

    Args:
        sequences (`Sequence[Sequence[int]]`): the token ids of N sequences.
        share (`bool`): whether common prefixes are there once, or every sequence is whole.
    """
    order, shared = prefix_order(sequences) if share else (list(range(len(sequences))), [0] * len(sequences))
    ordered = [sequences[index] for index in order]
    packed = pack(ordered, worth_sharing([len(sequence) for sequence in ordered], shared))
    last = [0] * len(order)
    for place, index in enumerate(order):
        last[index] = packed.last[place]
    return replace(packed, last=last)


def take_first(path: list[Span], count: int) -> list[Span]:
    """The spans of a path's first tokens."""
    taken = []
    for start, stop in path:
        if count <= 0:
            break
        taken.append((start, min(stop, start + count)))
        count -= stop - start
    return taken


def _extend(path: list[Span], span: Span) -> list[Span]:
    """A new path, for those of earlier spans must stay; a span right behind the last is joined to it."""
    if path and path[-1][1] == span[0]:
        return [*path[:-1], (path[-1][0], span[1])]
    return [*path, span]
