"""What each token of a pack reads, in the two forms that attention takes: spans with masks, and a rule for blocks."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from urm_hf.scoring.engine.prefixes import Pack, Span


@dataclass
class Reading:
    """
    What the tokens of a span attend to.

    Args:
        span (`tuple[int, int]`): the m tokens that read.
        path (`list[tuple[int, int]]`): the spans of the k tokens that they read, themselves the last.
        mask (`Tensor` or `None`): (m, k), added to the scores of attention; None is plain causal attention.
    """

    span: Span
    path: list[Span]
    mask: Tensor | None


def build_readings(packed: Pack, dtype: torch.dtype, device: torch.device) -> list[Reading]:
    """
    What each span of a pack attends to.

    Args:
        packed ([`Pack`]): its `queries`.
        dtype (`torch.dtype`): of the masks, that of the backbone's queries and keys.
        device (`torch.device`): where the backbone computes.
    """
    lengths = [_count_tokens(path) for _, path in packed.queries]
    counts = [stop - start for (start, stop), _ in packed.queries]
    masks: list[Tensor | None] = [None] * len(counts)
    behind = [number for number, (count, length) in enumerate(zip(counts, lengths, strict=True)) if count < length]
    if device.type != "cpu":
        for number in behind:  # kernels know this mask by name
            masks[number] = causal_lower_right(counts[number], lengths[number])
    elif behind:
        # the mask of m tokens after k others is the part of one triangle that begins k before its diagonal
        most, widest = max(counts[number] for number in behind), max(lengths[number] for number in behind)
        triangle = torch.full((most, widest + most), float("-inf"), dtype=dtype).triu(widest + 1)
        for number in behind:
            begin = widest - lengths[number] + counts[number]
            masks[number] = triangle[: counts[number], begin : begin + lengths[number]]
    return [Reading(span, path, mask) for (span, path), mask in zip(packed.queries, masks, strict=True)]


def cut_paths(paths: list[list[Span]], length: int) -> tuple[list[int], list[list[int]]]:
    """
    A division of the pack in pieces of which every path is made.

    Gradients flow back to a piece as large as it is, while that of a slice is as large as what it was taken from.

    Args:
        paths (`list[list[tuple[int, int]]]`): spans of the pack.
        length (`int`): T, its tokens.

    Returns:
        `tuple[list[int], list[list[int]]]`: the sizes of the pieces, T in all, and of each path the numbers of
        its pieces.
    """
    cuts = sorted({0, length, *(end for path in paths for span in path for end in span)})
    number_at = {cut: number for number, cut in enumerate(cuts)}
    sizes = [stop - start for start, stop in zip(cuts, cuts[1:], strict=False)]
    numbers = [[number for span in path for number in range(number_at[span[0]], number_at[span[1]])] for path in paths]
    return sizes, numbers


def read_until(packed: Pack, length: int) -> list[int]:
    """
    Where each token is read no more: token t is read by those of [t, until[t]) and by no others.

    In the order of prefixes whatever branches off from a token comes before anything that does not, so that one number
    a token is the whole tree. Attention in blocks asks `key <= query < until[key]`.

    Args:
        packed ([`Pack`]): of at most `length` tokens.
        length (`int`): T, with the tokens that round it up, of which each reads itself.
    """
    until = list(range(1, length + 1))
    for (start, stop), path in packed.queries:
        for begin, end in path:
            until[begin:end] = [stop] * (end - begin)
        until[start:stop] = [stop] * (stop - start)
    return until


def build_block_mask(until: list[int], device: torch.device) -> BlockMask:
    """
    The tree of a pack as a mask.

    Args:
        until (`list[int]`): T numbers, see `read_until`.
        device (`torch.device`): where the backbone computes.
    """
    ends = torch.tensor(until, device=device)

    def reads(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < ends[key])

    return create_block_mask(reads, None, None, len(until), len(until), device=str(device))


def _count_tokens(path: list[Span]) -> int:
    return sum(stop - start for start, stop in path)
