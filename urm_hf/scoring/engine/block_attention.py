"""Attention of a pack as one kernel for all of it, by FlexAttention: the back end of GPUs, where a call is dear."""

import functools
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from urm_hf.scoring.engine.running_pack import RunningPack


def attend_in_blocks(running: RunningPack, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
    """
    As `attend_in_spans`, but tokens that round the pack up read themselves.

    Dong et al. (2024), FlexAttention, arXiv:2412.05496: blocks of 128 x 128 in which no token reads another are not
    computed at all.
    """
    if torch.is_autocast_enabled(query.device.type):  # which knows other attention, but not this
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    attended: Any = _kernel(query.device.type)(
        query,
        key,
        value,
        block_mask=running.block_mask(query.device),
        scale=scaling,
        enable_gqa=key.shape[1] < query.shape[1],
    )
    return attended.transpose(1, 2)


@functools.lru_cache
def _kernel(device: str) -> Any:
    """Compiled once for all packs; on a CPU, where its kernels have no backward pass, as written, for tests."""
    return flex_attention if device == "cpu" else torch.compile(flex_attention, dynamic=True)
