"""Attention of a pack as one call for each of its spans: the back end of CPUs, where a call costs little."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from urm_hf.scoring.engine.prefixes import Span
from urm_hf.scoring.engine.running_pack import RunningPack


def attend_in_spans(running: RunningPack, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """
    Args:
        running ([`RunningPack`]): what the tokens read.
        query (`Tensor`): (1, heads, T, D).
        key, value (`Tensor`): (1, heads or fewer, T, D).
        scaling (`float` or `None`): of the scores; None is 1 / sqrt(D).

    Returns:
        `Tensor`: (1, T, heads, D); 0 for tokens that round the pack up, which read nothing.
    """
    groups = query.shape[1] // key.shape[1]
    if query.device.type != "cpu" and groups > 1:  # kernels for grouped heads are not everywhere
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    readings = running.readings(query.dtype, query.device)
    trains = torch.is_grad_enabled() and any(states.requires_grad for states in (query, key, value))
    if trains:
        queries = iter(query.split(running.span_sizes, dim=2))
        keys, values = (_join_pieces(states, *running.pieces) for states in (key, value))
    else:
        queries = (query[:, :, start:stop] for start, stop in (reading.span for reading in readings))
        keys, values = (_take_slices(states, (reading.path for reading in readings)) for states in (key, value))
    # with T before the heads, as the kernels lay their results out and the layer goes on
    attended = [
        scaled_dot_product_attention(
            one_query,
            one_key,
            one_value,
            attn_mask=reading.mask,
            is_causal=reading.mask is None,
            scale=scaling,
            enable_gqa=key.shape[1] < query.shape[1],
        ).transpose(1, 2)
        for reading, one_query, one_key, one_value in zip(readings, queries, keys, values, strict=False)
    ]
    rest = query.shape[2] - running.pack_length
    if rest:
        attended.append(query.new_zeros(1, rest, query.shape[1], value.shape[3]))
    return torch.cat(attended, dim=1)


def _take_slices(states: Tensor, paths: Iterator[list[Span]]) -> Iterator[Tensor]:
    """The states of each path: a view, where it is one span."""
    for path in paths:
        parts = [states[:, :, start:stop] for start, stop in path]
        yield parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _join_pieces(states: Tensor, sizes: list[int], paths: list[list[int]]) -> Iterator[Tensor]:
    """The same of pieces, whose gradients are no larger than they are (see `cut_paths`)."""
    pieces = states.split(sizes, dim=2)
    for path in paths:
        yield pieces[path[0]] if len(path) == 1 else torch.cat([pieces[number] for number in path], dim=2)
