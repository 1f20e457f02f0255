"""
Keys and values of prefixes, kept between calls within a bound of memory: what answers to one prompt have in common is
computed once, also where they come one after the other.

Whatever begins with remembered tokens may take as many of them as it shares. They stay right only as long as the
model's weights do.
"""

import threading
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from urm_hf.scoring.engine.prefixes import LEAST_SHARE, Span, as_bytes, count_common

LEAST_KEPT = 64  # tokens that a prefix must have, and that it must add to what is remembered
CHANGING_ROPE = ("dynamic", "longrope")  # whose keys depend on how long the longest sequence of a batch is


@dataclass(frozen=True)
class Remembered:
    """
    One prefix.

    Args:
        key (`bytes`): its k tokens, as `as_bytes` gives them.
        place (`int`): where its keys and values begin in the store.
    """

    key: bytes
    place: int

    @property
    def count(self) -> int:
        """Its tokens."""
        return len(self.key) // 4


@dataclass(frozen=True)
class Taken:
    """
    What a pack takes from the memory.

    Args:
        entries (`list[tuple[Remembered, int]]`): whose first tokens it takes, and how many.
        counts (`list[int]`): how many tokens of each of its N sequences are taken so; 0 for most.
        starts (`list[int]`): where these begin among all tokens that are taken, before those of the pack.
    """

    entries: list[tuple[Remembered, int]]
    counts: list[int]
    starts: list[int]

    @property
    def total(self) -> int:
        """Tokens that are taken."""
        return sum(count for _, count in self.entries)


class PrefixMemory:
    """
    Keys and values in one block of memory a layer, which is written round and round: whatever lies where the next
    prefix goes is forgotten. Memory that were asked for and given back for each prefix would be left in pieces.

    Args:
        most (`int`): bytes of all.

    Attributes:
        alone (`RLock`): held while a pack runs, so that nothing is overwritten that it reads.
    """

    def __init__(self, most: int):
        self.most, self.alone = most, threading.RLock()
        self.room = 0  # tokens; known when the first are written
        self._store: list[tuple[Tensor, Tensor]] = []  # of each layer keys and values, (1, heads, room, D)
        self._next = 0  # where the next prefix goes
        self._keys: list[bytes] = []  # sorted
        self._entries: dict[bytes, Remembered] = {}

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return sum(tensor.nbytes for pair in self._store for tensor in pair)

    def take(self, sequences: Sequence[Sequence[int]], shared: Sequence[int]) -> Taken:
        """
        What sequences share with what is remembered, as far as they do not share it with each other.

        Args:
            sequences (`Sequence[Sequence[int]]`): the token ids of N sequences, in the order of prefixes.
            shared (`Sequence[int]`): the tokens that each takes from the one before; of the first it is not read.
        """
        entries: list[tuple[Remembered, int]] = []
        counts, starts, total = [], [], 0
        for number, sequence in enumerate(sequences):
            found = None if number and shared[number] else self._find(sequence)
            counts.append(found[1] if found else 0)
            starts.append(total)
            if found:
                entries.append(found)
                total += found[1]
        return Taken(entries, counts, starts)

    def choose(self, sequences: Sequence[Sequence[int]], shared: Sequence[int], taken: Taken) -> list[tuple[int, int]]:
        """
        Which prefixes of a pack to remember: (sequence, its first tokens).

        Of several sequences what they all have in common; of one by itself all of it, as nobody knows yet what others
        will share. Not where most is remembered already.

        Args:
            sequences, shared: as of `take`.
            taken ([`Taken`]): what it gave.
        """
        roots = [number for number in range(len(sequences)) if not (number and shared[number])]
        chosen = []
        for first, stop in zip(roots, [*roots[1:], len(sequences)], strict=True):
            count = min(shared[first + 1 : stop], default=len(sequences[first]))
            if count - taken.counts[first] >= max(LEAST_KEPT, count // 8):
                chosen.append((first, count))
        return chosen

    def read(self, layer: int, entry: Remembered, count: int) -> tuple[Tensor, Tensor]:
        """A layer's keys and values, (1, heads, count, D) each, of the first tokens of a prefix."""
        keys, values = self._store[layer]
        place = slice(entry.place, entry.place + count)
        return keys[:, :, place], values[:, :, place]

    def put(self, sequence: Sequence[int], states: list[tuple[Tensor, Tensor]]):
        """
        Remembers a sequence; a part of it that was remembered is forgotten.

        Args:
            sequence (`Sequence[int]`): k token ids.
            states (`list[tuple[Tensor, Tensor]]`): of each layer keys and values, (1, heads, k, D), with positions.
        """
        key, count = as_bytes(sequence), len(sequence)
        # what is not finite in one layer is not in those after it
        if key in self._entries or not all(torch.isfinite(tensor).all() for tensor in states[-1]):
            return
        if not self._store:
            self._reserve(states, count)
        if count > self.room:
            return
        at = bisect_left(self._keys, key)
        # the prefixes of a key stand before it, the longest the nearest
        if at and key.startswith(self._keys[at - 1]):
            self._forget(self._keys[at - 1])
        place = self._next if self._next + count <= self.room else 0
        for entry in list(self._entries.values()):
            if entry.place < place + count and place < entry.place + entry.count:
                self._forget(entry.key)
        for store, pair in zip(self._store, states, strict=True):
            for kept, found in zip(store, pair, strict=True):
                kept[:, :, place : place + count] = found
        insort(self._keys, key)
        self._entries[key] = Remembered(key, place)
        self._next = place + count

    def _reserve(self, states: list[tuple[Tensor, Tensor]], count: int):
        """The block, for as many tokens as the bytes allow."""
        self.room = self.most * count // sum(tensor.nbytes for pair in states for tensor in pair)
        self._store = [(_make_room(keys, self.room), _make_room(values, self.room)) for keys, values in states]

    def _find(self, sequence: Sequence[int]) -> tuple[Remembered, int] | None:
        key = as_bytes(sequence)
        place = bisect_left(self._keys, key)
        best, most = None, 0
        # in lexicographic order nothing shares more with a sequence than its two neighbors
        for other in self._keys[max(0, place - 1) : place + 1]:
            common = min(count_common(key, other), len(sequence) - 1)  # the last token's state is what is asked for
            if common > most:
                best, most = self._entries[other], common
        return None if best is None or most < max(LEAST_KEPT, LEAST_SHARE * len(sequence)) else (best, most)

    def _forget(self, key: bytes):
        del self._entries[key]
        del self._keys[bisect_left(self._keys, key)]


class LayerStates:
    """
    What the layers of one pack read beside its own tokens, and what is kept of them.

    Args:
        memory ([`PrefixMemory`]): where that is.
        taken ([`Taken`]): what they read.
        kept (`list[list[tuple[int, int]]]`): the paths of the prefixes that are to be remembered.
    """

    def __init__(self, memory: PrefixMemory, taken: Taken, kept: list[list[Span]]):
        self.memory, self.taken, self.kept = memory, taken, kept
        self.states: list[list[tuple[Tensor, Tensor]]] = [[] for _ in kept]

    def join(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The taken keys and values of a layer, followed by the pack's own."""
        if self.taken.entries:
            known = [self.memory.read(layer, entry, count) for entry, count in self.taken.entries]
            key = torch.cat([*(keys for keys, _ in known), key], dim=2)
            value = torch.cat([*(values for _, values in known), value], dim=2)
        for states, path in zip(self.states, self.kept, strict=True):
            # copies: a view would keep the whole pack until its end
            states.append((_take(key, path), _take(value, path)))
        return key, value


def _make_room(states: Tensor, room: int) -> Tensor:
    return states.new_empty(*states.shape[:2], room, states.shape[3])


def _take(states: Tensor, path: list[Span]) -> Tensor:
    return torch.cat([states[:, :, start:stop] for start, stop in path], dim=2)


def may_remember(backbone: PreTrainedModel) -> bool:
    """Whether a backbone's keys depend on a token and those before it alone."""
    rope = getattr(backbone.config.get_text_config(), "rope_parameters", None) or {}
    kinds = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    return not any(kind.get("rope_type") in CHANGING_ROPE for kind in kinds)
