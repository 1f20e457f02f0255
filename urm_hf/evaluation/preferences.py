"""Prompts with answers that are known to be better and worse, whichever form they were published in."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

KINDS = ("pairs", "rewardbench", "rewardbench2", "rmbench")


@dataclass(frozen=True)
class PreferenceItem:
    """
    One prompt with its better and its worse answers.

    Args:
        chosen, rejected: conversations as [`RewardScorer.score`] reads them, at least one each.
        prompt: key of the prompt; items that share it are resampled together.
        subset: None where the data has none. row: of the data, counted from 0. file: the name of its data set, where
            several were joined.
        details: what its benchmark needs besides: styles, domain, id.
    """

    chosen: tuple[dict[str, Any], ...]
    rejected: tuple[dict[str, Any], ...]
    prompt: str
    subset: str | None
    row: int
    details: dict[str, Any] = field(default_factory=dict)
    file: str | None = None


@dataclass(frozen=True)
class PreferenceSet:
    """
    I items with N conversations and P pairs of a chosen and a rejected answer.

    Args:
        kind: one of `KINDS`; decides what accuracy means (`urm_hf.evaluation.pairs.accuracy`).
        skipped: rows that were left out, by reason.
    """

    name: str
    kind: str
    items: list[PreferenceItem]
    skipped: dict[str, int] = field(default_factory=dict)

    @cached_property
    def conversations(self) -> list[dict[str, Any]]:
        """(N) of each item, one item after the other, the chosen and then the rejected ones."""
        return [conversation for item in self.items for conversation in (*item.chosen, *item.rejected)]

    @cached_property
    def origins(self) -> list[str]:
        """(N) where each conversation comes from, for errors: "pairs.jsonl, row 3, chosen"."""
        return [
            f"{item.file or self.name}, row {item.row}, {side}" + (f" {number}" if len(answers) > 1 else "")
            for item in self.items
            for side, answers in (("chosen", item.chosen), ("rejected", item.rejected))
            for number in range(len(answers))
        ]

    @cached_property
    def starts(self) -> np.ndarray:
        """(I) of each item, the index of its first conversation."""
        sizes = [len(item.chosen) + len(item.rejected) for item in self.items]
        return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(P) each, item, chosen and rejected: every chosen answer of an item with every rejected one."""
        rows = [
            (number, start + c, start + len(item.chosen) + r)
            for number, (item, start) in enumerate(zip(self.items, self.starts.tolist(), strict=True))
            for c in range(len(item.chosen))
            for r in range(len(item.rejected))
        ]
        table = np.array(rows, dtype=np.int64)
        return table[:, 0], table[:, 1], table[:, 2]

    @cached_property
    def answer_lengths(self) -> np.ndarray:
        """
        (N) characters of each answer. A text that holds prompt and answer in one counts as a whole: the prompt is on
        both sides alike.
        """
        return np.array([_length(conversation["completion"]) for conversation in self.conversations])

    @property
    def prompts(self) -> int:
        """How many distinct prompts there are."""
        return len({item.prompt for item in self.items})

    @property
    def subsets(self) -> dict[str, int]:
        """Items in each subset, in the order of the data; empty where there are none."""
        counts: dict[str, int] = {}
        for item in self.items:
            if item.subset is not None:
                counts[item.subset] = counts.get(item.subset, 0) + 1
        return counts

    def rewards_of_items(self, rewards: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(I) rewards of the chosen and of the rejected answers of each item."""
        return [
            (rewards[start : start + len(item.chosen)], rewards[start + len(item.chosen) :][: len(item.rejected)])
            for item, start in zip(self.items, self.starts.tolist(), strict=True)
        ]


def _length(answer: str | list[dict[str, Any]]) -> int:
    return len(answer) if isinstance(answer, str) else sum(len(message.get("content") or "") for message in answer)
