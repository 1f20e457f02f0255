"""
A backbone's pass over a [`Pack`]: every layer but attention works on single tokens, so that T tokens of many sequences
go through as one row without padding; in attention each token reads the tokens of its own path.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from urm_hf.scoring.engine.devices import execution_device
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.scoring.engine.prefixes import Pack, Span, pack, prefix_order

logger = logging.getLogger(__name__)

NAME = "urm_packed"
ROUNDED = 64  # tokens; lengths of long packs are multiples of it
UNKNOWN = ("softcap", "s_aux", "position_bias")  # arguments of attention that change what it computes


class NotPackable(ValueError):
    """The backbone's attention is of a kind that packs do not cover."""


@dataclass
class Reading:
    """What the tokens of a span attend to: the spans of their path, under a mask; None is plain causal attention."""

    span: Span
    path: list[Span]
    mask: Tensor | None


_readings: list[Reading] = []  # of the pack that is in the backbone now
_layers: list[torch.nn.Module] = []  # whose attention it has passed
_one_at_a_time = threading.RLock()  # both are for one pack; other threads wait


def last_hidden_states(backbone: PreTrainedModel, packed: Pack) -> Tensor:
    """The last hidden state of the last token of each of the pack's N sequences, (N, H)."""
    device = execution_device(backbone)
    # lengths that recur: libraries keep kernels and memory for each that they have met, gigabytes in bfloat16
    more = [0] * (-len(packed.tokens) % ROUNDED if len(packed.tokens) >= 16 * ROUNDED else 0)
    inputs = {"input_ids": packed.tokens + more, "position_ids": packed.positions + more}
    tensors = {name: on_device(torch.tensor([values]), device) for name, values in inputs.items()}
    with _packs_attended(backbone, _readings_of(packed, backbone.dtype, device)):
        hidden = backbone(**tensors, use_cache=False, return_dict=True).last_hidden_state[0]
    return hidden[torch.tensor(packed.last, device=hidden.device)]


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy to a GPU goes on while the CPU prepares the next batch."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def longest_window(backbone: PreTrainedModel) -> int | None:
    """The longest sequence in which every token still sees all those before; None: any."""
    config = backbone.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=None)


@torch.no_grad()
def gives_same_states(backbone: PreTrainedModel, sequence: Sequence[int], pad_token_id: int) -> bool:
    """
    Whether a small pack of parts of `sequence` has the hidden states of a padded batch, and passes this attention in
    every layer. An encoder does not, nor state-space layers, nor a backbone that ignores positions.
    """
    forth, back = list(sequence[:24]), list(sequence[:24])[::-1]
    rows = sorted({tuple(row) for row in (forth, forth[:15], forth[:9] + back[:9], back, back[:9] + forth[:5])})
    _, shared = prefix_order(rows)
    batch = {name: tensor.to(execution_device(backbone)) for name, tensor in pad_batch(rows, pad_token_id).items()}
    try:
        packed = last_hidden_states(backbone, pack(rows, shared, block=4)).float()
        layers = len(_layers)
        padded = backbone(**batch, use_cache=False, return_dict=True).last_hidden_state.float()
    except Exception as error:  # of any kind: it need not be a decoder, nor take positions
        logger.debug("Padded batches: %s does not take packs: %s", type(backbone).__name__, error)
        return False
    if layers != backbone.config.get_text_config().num_hidden_layers:
        logger.debug("Padded batches: only %d layers of %s attend as usual.", layers, type(backbone).__name__)
        return False
    expected = padded[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
    difference = float((packed - expected).norm() / expected.norm())
    same = difference < (1e-3 if backbone.dtype in (torch.float32, torch.float64) else 0.05)
    if not same:
        logger.debug("Padded batches: packs differ by %.1e in %s.", difference, type(backbone).__name__)
    return same


def _readings_of(packed: Pack, dtype: torch.dtype, device: torch.device) -> list[Reading]:
    lengths = [sum(stop - start for start, stop in path) for _, path in packed.queries]
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


@contextmanager
def _packs_attended(backbone: PreTrainedModel, readings: list[Reading]) -> Iterator[None]:
    """Within it the backbone attends as `readings` say."""
    global _readings
    with _one_at_a_time:
        config = backbone.config.get_text_config()
        usual = config._attn_implementation
        _layers.clear()
        config._attn_implementation, _readings = NAME, readings
        try:
            yield
        finally:
            config._attn_implementation, _readings = usual, []


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """Attention of transformers' interface: query (1, heads, T, D), key and value with as many heads or fewer."""
    unknown = [name for name in UNKNOWN if kwargs.get(name) is not None]
    causal = getattr(module, "is_causal", True) and kwargs.get("is_causal") is not False
    if unknown or not causal or attention_mask is not None or dropout:
        raise NotPackable(f"{type(module).__name__} is not plain causal attention ({unknown}).")
    groups = query.shape[1] // key.shape[1]
    if query.device.type != "cpu" and groups > 1:  # kernels for grouped heads are not everywhere
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    _layers.append(module)
    out = query.new_zeros(1, query.shape[2], query.shape[1], value.shape[3])  # those that round up read nothing
    for reading in _readings:
        start, stop = reading.span
        attended = scaled_dot_product_attention(
            query[:, :, start:stop],
            _gathered(key, reading.path),
            _gathered(value, reading.path),
            attn_mask=reading.mask,
            is_causal=reading.mask is None,
            scale=scaling,
            enable_gqa=key.shape[1] < query.shape[1],
        )
        out[:, start:stop] = attended.transpose(1, 2)
    return out, None


def _gathered(states: Tensor, path: list[Span]) -> Tensor:
    parts = [states[:, :, start:stop] for start, stop in path]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


AttentionInterface.register(NAME, packed_attention)


def compile_layers(backbone: PreTrainedModel):
    """
    Compiles a backbone's layers in place, once, for any number of tokens. The attention of packs stays as it is: it
    reads lists that change with every pack.
    """
    AttentionInterface.register(NAME, torch.compiler.disable(packed_attention))
    for module in backbone.modules():
        if type(module).__name__ in (backbone._no_split_modules or ()) and module._compiled_call_impl is None:
            module.compile(dynamic=True)
