"""
A backbone's pass over a [`Pack`]: every layer but attention works on single tokens, so that T tokens of many sequences
go through as one row without padding; in attention each token reads the tokens of its own path.

The backbone's attention function is wrapped once, where transformers keeps it. What a token reads is a context
variable: it exists in the thread that runs a pack, while it does, and nowhere else. So any number of threads may run
packs, padded batches and plain forward passes of one model at once, and nothing of the model or its config changes.
"""

import functools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel

from urm_hf.scoring.engine.block_attention import attend_in_blocks
from urm_hf.scoring.engine.devices import execution_device
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.scoring.engine.prefix_memory import LayerStates
from urm_hf.scoring.engine.prefixes import Pack, pack, prefix_order
from urm_hf.scoring.engine.running_pack import NO_MASK, PACK, NotPackable, RunningPack
from urm_hf.scoring.engine.span_attention import attend_in_spans

logger = logging.getLogger(__name__)

UNKNOWN = ("softcap", "s_aux", "position_bias")  # arguments of attention that change what it computes
COMPILED_HERE = "_urm_packs_compiled"  # marks attention modules in layers that `compile_layers` compiled


_running: ContextVar[RunningPack | None] = ContextVar("urm_running_pack", default=None)
_installing = threading.Lock()


def last_hidden_states(backbone: PreTrainedModel, packed: Pack, states: LayerStates | None = None) -> Tensor:
    """
    The last hidden state of the last token of each of the pack's N sequences, (N, H).

    Args:
        backbone (`PreTrainedModel`): a decoder whose attention function transformers keeps.
        packed ([`Pack`]): the sequences.
        states ([`LayerStates`], *optional*): keys and values that the pack takes as known, or that are kept of it.

    Raises:
        NotPackable: not every layer attended as the pack says; its hidden states would be wrong.
    """
    install_attention(backbone)
    running = RunningPack(packed, states=states)
    with _attend_as(running):
        hidden = backbone(**running.inputs(execution_device(backbone)), use_cache=False, return_dict=True)
    return running.take_last(backbone, hidden.last_hidden_state)


def longest_window(backbone: PreTrainedModel) -> int | None:
    """The longest sequence in which every token still sees all those before; None: any."""
    config = backbone.config.get_text_config()
    windows = (getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size"))
    return min((window for window in windows if window), default=None)


@torch.no_grad()
def gives_same_states(backbone: PreTrainedModel, sequence: Sequence[int], pad_token_id: int) -> bool | None:
    """
    Whether a small pack of parts of `sequence` has the hidden states of a padded batch, and passes this attention in
    every layer. An encoder does not, nor state-space layers, nor a backbone that ignores positions.

    Args:
        backbone (`PreTrainedModel`): in eval mode.
        sequence (`Sequence[int]`): token ids that it knows; its first 24 are used.
        pad_token_id (`int`): for the padded batch.

    Returns:
        `bool` or `None`: None if the states of this sequence are not finite, so that it tells nothing.
    """
    rows = probe_rows(sequence)
    _, shared = prefix_order(rows)
    batch = {name: tensor.to(execution_device(backbone)) for name, tensor in pad_batch(rows, pad_token_id).items()}
    try:
        packed = last_hidden_states(backbone, pack(rows, shared, block=4)).float()
        padded = backbone(**batch, use_cache=False, return_dict=True).last_hidden_state.float()
    except Exception as error:  # of any kind: it need not be a decoder, nor take positions
        logger.debug("Padded batches: %s does not take packs: %s", type(backbone).__name__, error)
        return False
    expected = padded[torch.arange(len(rows)), torch.tensor([len(row) - 1 for row in rows])]
    if not torch.isfinite(expected).all():
        return None
    difference = differ(packed, expected, backbone.dtype)
    if difference is not None:
        logger.debug("Padded batches: packs differ by %.1e in %s.", difference, type(backbone).__name__)
    return difference is None


def probe_rows(sequence: Sequence[int]) -> list[tuple[int, ...]]:
    """Parts of a sequence that share a prefix, branch off inside one, and share nothing: each way through a pack."""
    forth, back = list(sequence[:24]), list(sequence[:24])[::-1]
    return sorted({tuple(row) for row in (forth, forth[:15], forth[:9] + back[:9], back, back[:9] + forth[:5])})


def differ(packed: Tensor, expected: Tensor, dtype: torch.dtype) -> float | None:
    """
    By how much states differ, relative to their norm; None if that is rounding.

    Args:
        packed, expected (`Tensor`): of one shape.
        dtype (`torch.dtype`): in which the backbone computes.
    """
    difference = float((packed - expected).norm() / expected.norm())
    # well above what rounding gives, 2e-7 in float32 and 3e-3 in bfloat16 in a small Llama
    tolerance = 1e-3 if dtype in (torch.float32, torch.float64) else 0.05
    return None if difference < tolerance else difference


@contextmanager
def _attend_as(running: RunningPack) -> Iterator[None]:
    """Within it, and in this thread only, wrapped attention reads what the pack says."""
    token = _running.set(running)
    try:
        yield
    finally:
        _running.reset(token)


def attention_name(backbone: PreTrainedModel) -> str:
    """The name under which transformers keeps a backbone's attention function ("sdpa", "flash_attention_2", ...)."""
    return backbone.config.get_text_config()._attn_implementation


def install_attention(backbone: PreTrainedModel):
    """
    Wraps the backbone's attention function, once for all backbones with that function.

    Raises:
        NotPackable: it has none that transformers keeps, as "eager" attention, which every model has of its own.
    """
    name = attention_name(backbone)
    functions = AttentionInterface()
    with _installing:
        own = functions.get(name)
        if own is None:
            raise NotPackable(f"{type(backbone).__name__} has the attention {name!r}, which is not an interface's.")
        if not hasattr(own, "without_packs"):
            AttentionInterface.register(name, _wrap(own))


def _wrap(own: Callable) -> Callable:
    """An attention function that reads as the running pack says, and without one is `own`."""

    def attend(module: torch.nn.Module, *args, **kwargs) -> tuple[Tensor, Any]:
        # handed on by the layers where the pack trains, as a context is gone when backward runs a layer once more
        running = kwargs.pop(PACK, None) or _running.get()
        if running is None:
            return own(module, *args, **kwargs)
        return packed_attention(running, module, *args, **kwargs)

    beside_graphs = torch.compiler.disable(attend)

    @functools.wraps(own)
    def dispatch(module: torch.nn.Module, *args, **kwargs) -> tuple[Tensor, Any]:
        if not torch.compiler.is_compiling():
            return attend(module, *args, **kwargs)
        # A graph would keep for ever what the variable was when it was traced. Only layers that were compiled for
        # packs, or are given one, pay for leaving the graph here; all others keep their attention in one piece.
        if getattr(module, COMPILED_HERE, False) or kwargs.get(PACK) is not None:
            return beside_graphs(module, *args, **kwargs)
        kwargs.pop(PACK, None)
        return own(module, *args, **kwargs)

    dispatch.without_packs = own  # type: ignore[attr-defined]
    return dispatch


def packed_attention(
    running: RunningPack,
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> tuple[Tensor, None]:
    """
    Attention of transformers' interface under the readings of a pack: query (1, heads, T, D), key and value with as
    many heads or fewer.

    Args:
        running ([`RunningPack`]): what the tokens read; the layer is counted in it.
        module (`Module`): the layer's attention.
        query (`Tensor`): (1, heads, T, D).
        key, value (`Tensor`): (1, heads or fewer, T, D).
        attention_mask (`Tensor` or `None`): must be the one of [`last_hidden_states`], which says nothing.
        scaling (`float`, *optional*): of the scores; by default 1 / sqrt(D).
        dropout (`float`, *optional*, defaults to 0): must be 0.
        kwargs: what else the interface hands on.

    Returns:
        `tuple[Tensor, None]`: (1, T, heads, D), and no weights of attention.

    Raises:
        NotPackable: the layer asks for more than causal attention.
    """
    unknown = [name for name in UNKNOWN if kwargs.get(name) is not None]
    causal = getattr(module, "is_causal", True) and kwargs.get("is_causal") is not False
    masked = attention_mask is not None and attention_mask.shape != NO_MASK
    if unknown or not causal or masked or dropout:
        raise NotPackable(f"{type(module).__name__} is not plain causal attention ({unknown}).")
    if running.states is not None:
        key, value = running.states.join(running.layers, key, value)
    running.layers += 1
    in_blocks = running.backend == "blocks" or running.backend == "auto" and query.device.type == "cuda"
    in_blocks &= key.shape[2] == query.shape[2]  # what is known beside a pack has keys, but no queries
    attend = attend_in_blocks if in_blocks else attend_in_spans
    return attend(running, query, key, value, scaling), None


def compile_layers(backbone: PreTrainedModel):
    """
    Compiles a backbone's layers in place, once, for any number of tokens. Their attention stays outside the graphs,
    where it sees whether a pack is running.

    Args:
        backbone (`PreTrainedModel`): its layers stay compiled.
    """
    for module in backbone.modules():
        # models name their layers differently, but all say which classes must not be split across devices
        if type(module).__name__ in (backbone._no_split_modules or ()) and module._compiled_call_impl is None:
            for part in module.modules():
                setattr(part, COMPILED_HERE, True)
            module.compile(dynamic=True)
