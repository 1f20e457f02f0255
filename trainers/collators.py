"""Batches of rated conversations and of pairs: token ids, or the indices of hidden states computed before."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from trl.trainer.reward_trainer import DataCollatorForPreference

from urm_hf.data.ratings import ratings_array
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.scoring.features import Features
from urm_hf.trainers.packed_models import packed_batch


@dataclass
class DataCollatorForRatings:
    """
    Rated conversations to a batch.

    `{"input_ids": [...], "ratings": n x R, "weight": w}` -> input_ids and attention_mask (B, T), ratings (B, n, R),
    weight (B,). Examples with a `feature` index give `pooled_hidden` (B, H) instead of tokens.

    Args:
        pad_token_id (`int`): what fills shorter conversations, to the right.
        features (`dict[str, Features]`, *optional*): hidden states by the name that an example has in `feature_file`.
        packing (`str`, *optional*, defaults to `"none"`): "tree" and "flat" give a pack in place of a padded batch.
        backend (`str`, *optional*, defaults to `"auto"`): attention of packs.
        unread (`int`, *optional*): what packs leave out at the end of a conversation, see [`Trial`].
    """

    pad_token_id: int
    features: Mapping[str, Features] = field(default_factory=dict)
    packing: str = "none"
    backend: str = "auto"
    unread: int | None = None

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = {
            "ratings": torch.from_numpy(ratings_array([example["ratings"] for example in examples])),
            "weight": torch.tensor([example["weight"] for example in examples], dtype=torch.float32),
        }
        if "feature" in examples[0]:
            batch["pooled_hidden"] = _read_hidden(self.features, examples, "feature")
            return batch
        sequences = [example["input_ids"] for example in examples]
        if self.packing != "none":
            return (
                packed_batch(sequences, share=self.packing == "tree", backend=self.backend, unread=self.unread) | batch
            )
        return batch | pad_batch(sequences, self.pad_token_id)


@dataclass
class DataCollatorForCachedPreference(DataCollatorForPreference):
    """
    TRL's collator, with packs in place of padded batches if `packing` says so. Examples with `chosen_feature` and
    `rejected_feature` give `pooled_hidden` (2B, H). Chosen first.

    Args:
        pad_token_id (`int`): what fills shorter conversations, to the right.
        pad_to_multiple_of (`int`, *optional*): rounds the length of a batch up.
        features (`dict[str, Features]`, *optional*): hidden states by the name that an example has in `feature_file`.
        packing (`str`, *optional*, defaults to `"none"`): "tree" and "flat" give a pack in place of a padded batch.
        backend (`str`, *optional*, defaults to `"auto"`): attention of packs.
        unread (`int`, *optional*): what packs leave out at the end of a conversation, see [`Trial`].
    """

    features: Mapping[str, Features] = field(default_factory=dict)
    packing: str = "none"
    backend: str = "auto"
    unread: int | None = None

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        cached = "chosen_feature" in examples[0]
        if not cached and self.packing == "none":
            return super().torch_call(examples)
        batch = self._read_cached(examples) if cached else self._pack(examples)
        if "margin" in examples[0]:
            batch["margin"] = torch.tensor([example["margin"] for example in examples], dtype=torch.float32)
        return batch

    def _pack(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        sides = ("chosen_ids", "rejected_ids")
        sequences = [example[side] for side in sides for example in examples]
        return packed_batch(sequences, share=self.packing == "tree", backend=self.backend, unread=self.unread)

    def _read_cached(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        chosen = _read_hidden(self.features, examples, "chosen_feature")
        rejected = _read_hidden(self.features, examples, "rejected_feature")
        return {
            "pooled_hidden": torch.cat([chosen, rejected]),
            # no columns: no token passes the backbone, and TRL, which sums the mask up to count them, counts none
            "attention_mask": torch.zeros(2 * len(examples), 0, dtype=torch.long),
        }


def _read_hidden(features: Mapping[str, Features], examples: list[dict[str, Any]], column: str) -> torch.Tensor:
    """(B, H) hidden states, by the indices in a column. A batch is of one dataset, and so of one file."""
    rows = np.array([example[column] for example in examples])
    return torch.from_numpy(features[examples[0]["feature_file"]][rows])
