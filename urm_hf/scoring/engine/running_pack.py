"""A pack on its way through a backbone: what goes in, what its tokens read in every layer, and what comes out."""

import functools

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import PreTrainedModel

from urm_hf.scoring.engine.devices import on_device
from urm_hf.scoring.engine.prefix_memory import LayerStates
from urm_hf.scoring.engine.prefixes import Pack
from urm_hf.scoring.engine.readings import Reading, build_block_mask, build_readings, cut_paths, read_until

ROUNDED = 64  # tokens; lengths of long packs are multiples of it
NO_MASK = (1, 1, 1, 1)  # shape of the mask of a pack: transformers hands on a mask of four dimensions as it is
PACK = "urm_pack"  # the keyword by which a pack goes through layers
BACKENDS = ("auto", "spans", "blocks")


class NotPackable(ValueError):
    """The backbone's attention is of a kind that packs do not cover."""


class RunningPack:
    """
    A pack on its way through a backbone: what its tokens read, worked out once for all layers, and how many of these
    have attended so.

    Args:
        packed ([`Pack`]): the sequences.
        backend (`str`, *optional*, defaults to `"auto"`): "spans", "blocks", or by the device.
        states ([`LayerStates`], *optional*): keys and values that are read beside the pack's own, or kept.
    """

    def __init__(self, packed: Pack, backend: str = "auto", states: LayerStates | None = None):
        if backend not in BACKENDS:
            raise ValueError(f"the back end of attention must be one of {', '.join(BACKENDS)}, got {backend!r}.")
        self.packed, self.backend, self.layers, self.states = packed, backend, 0, states
        self.pack_length = len(packed.tokens)
        # lengths that recur: libraries keep kernels and memory for each that they have met, gigabytes in bfloat16
        rounded = self.pack_length >= 16 * ROUNDED
        self.length = self.pack_length + (-self.pack_length % ROUNDED if rounded else 0)
        self._block_mask: BlockMask | None = None
        self._readings: dict[tuple[torch.dtype, torch.device], list[Reading]] = {}

    def readings(self, dtype: torch.dtype, device: torch.device) -> list[Reading]:
        """What each span reads. Under autocast queries have another precision than the backbone's weights."""
        if (dtype, device) not in self._readings:
            self._readings[dtype, device] = build_readings(self.packed, dtype, device)
        return self._readings[dtype, device]

    @functools.cached_property
    def span_sizes(self) -> list[int]:
        """The tokens of each span, and those that round up; T in all."""
        sizes = [stop - start for (start, stop), _ in self.packed.queries]
        return [*sizes, self.length - self.pack_length]

    @functools.cached_property
    def pieces(self) -> tuple[list[int], list[list[int]]]:
        """What all paths are made of, see `cut_paths`."""
        return cut_paths([path for _, path in self.packed.queries], self.length)

    def block_mask(self, device: torch.device) -> BlockMask:
        """The whole tree as one mask."""
        if self._block_mask is None:
            self._block_mask = build_block_mask(read_until(self.packed, self.length), device)
        return self._block_mask

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """The backbone's arguments for the pack, (1, T) each."""
        more = [0] * (self.length - self.pack_length)
        values = {"input_ids": self.packed.tokens + more, "position_ids": self.packed.positions + more}
        tensors = {name: on_device(torch.tensor([numbers]), device) for name, numbers in values.items()}
        return tensors | {"attention_mask": torch.ones(NO_MASK, dtype=torch.bool, device=device)}

    def take_last(self, backbone: PreTrainedModel, hidden: Tensor) -> Tensor:
        """
        The last token's state of each of the N sequences (N, H), of the states of all (1, T, H).

        Raises:
            NotPackable: not every layer attended as the pack says; the states would be wrong.
        """
        # counted: a layer with an attention of its own would have read across sequences, without an error
        layers = backbone.config.get_text_config().num_hidden_layers
        if self.layers != layers:
            raise NotPackable(f"only {self.layers} of {layers} layers of {type(backbone).__name__} attend as usual.")
        return hidden[0][torch.tensor(self.packed.last, device=hidden.device)]
