"""
A benchmark: how its rows are read and its accuracies counted, in one object; and the preferences that it counts.

A new benchmark is one file beside this one, with one `Benchmark` (docs/adding_a_benchmark.md).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from urm_hf.data.conversations import Conversation
from urm_hf.evaluation.benchmarks.group_means import GroupMean, Outcomes
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns

Row = Mapping[str, Any]


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

    chosen: tuple[Conversation, ...]
    rejected: tuple[Conversation, ...]
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
        name (`str`): of the data set.
        benchmark (`Benchmark`): decides what accuracy means.
        items (`list[PreferenceItem]`): in the order of the data.
        skipped (`dict[str, int]`, *optional*): rows that were left out, by reason.
    """

    name: str
    benchmark: "Benchmark"
    items: list[PreferenceItem]
    skipped: dict[str, int] = field(default_factory=dict)

    @cached_property
    def conversations(self) -> list[Conversation]:
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
        return np.array([_measure_length(conversation) for conversation in self.conversations])

    @property
    def kind(self) -> str:
        return self.benchmark.name

    @cached_property
    def prompts(self) -> list[str]:
        """(I) the prompt of each item."""
        return [item.prompt for item in self.items]

    @property
    def n_prompts(self) -> int:
        """How many distinct prompts there are."""
        return len(set(self.prompts))

    @property
    def remarks(self) -> list[str]:
        """What a reader must know who compares these accuracies with published ones; empty if nothing."""
        return self.benchmark.remarks(self)

    @property
    def noun(self) -> str:
        return self.benchmark.noun

    @property
    def mean(self) -> str:
        return self.benchmark.mean

    @property
    def subsets(self) -> dict[str, int]:
        """Items in each subset, in the order of the data; empty where there are none."""
        counts: dict[str, int] = {}
        for item in self.items:
            if item.subset is not None:
                counts[item.subset] = counts.get(item.subset, 0) + 1
        return counts

    def select(self, rows: Sequence[int]) -> "PreferenceSet":
        """These items alone."""
        return replace(self, items=[self.items[row] for row in rows])

    def rename(self, name: str) -> "PreferenceSet":
        return replace(self, name=name)

    def rewards_of_items(self, rewards: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(I) rewards of the chosen and of the rejected answers of each item."""
        return [
            (rewards[start : start + len(item.chosen)], rewards[start + len(item.chosen) :][: len(item.rejected)])
            for item, start in zip(self.items, self.starts.tolist(), strict=True)
        ]


def _measure_length(conversation: Conversation) -> int:
    """Characters of an answer: of a text, or of what its turns say and call."""
    answer = conversation.answer
    if not isinstance(answer, list):
        return len(answer or "")
    length = 0
    for turn in answer:
        length += len(turn.get("content") or "")
        if turn.get("tool_calls"):
            length += len(json.dumps(turn["tool_calls"], ensure_ascii=False, default=str))
    return length


class Decisions(NamedTuple):
    """K decisions of one model, right or wrong, and the prompt of each."""

    right: np.ndarray
    prompts: list[str]


def count_pairs(preferences: PreferenceSet, rewards: np.ndarray) -> Outcomes:
    """Each pair counts 1 if the chosen answer has the higher reward, else 0: a tie is wrong."""
    _, chosen, rejected = preferences.pairs
    return build_pair_outcomes(preferences, rewards[chosen] > rewards[rejected])


def count_tied_pairs(preferences: PreferenceSet, rewards: np.ndarray) -> tuple[Outcomes, list[GroupMean]]:
    """Each pair counts 1 if both answers have the same reward; of all pairs, and of each subset."""
    _, chosen, rejected = preferences.pairs
    tied = build_pair_outcomes(preferences, rewards[chosen] == rewards[rejected])
    return tied, compute_subset_means(preferences)


def count_random_pairs(preferences: PreferenceSet) -> Outcomes:
    """What each pair counts on average if rewards are random: of two answers, one half."""
    return build_pair_outcomes(preferences, np.full(len(preferences.pairs[0]), 0.5))


def build_pair_outcomes(preferences: PreferenceSet, values: np.ndarray) -> Outcomes:
    """Values (P) of all pairs, with their prompts."""
    prompts = [preferences.items[number].prompt for number in preferences.pairs[0]]
    return Outcomes(values.astype(float), np.arange(len(values)), prompts)


def decide_items(preferences: PreferenceSet, rewards: np.ndarray) -> Decisions:
    """An item is right if every chosen answer has a higher reward than every rejected one."""
    right = [chosen.min() > rejected.max() for chosen, rejected in preferences.rewards_of_items(rewards)]
    return Decisions(np.array(right), preferences.prompts)


def decide_pairs(preferences: PreferenceSet, rewards: np.ndarray) -> Decisions:
    """Every pair is a decision: for items that are mostly won in part."""
    items, chosen, rejected = preferences.pairs
    return Decisions(rewards[chosen] > rewards[rejected], [preferences.prompts[number] for number in items])


def compute_subset_means(preferences: PreferenceSet, items: np.ndarray | None = None) -> list[GroupMean]:
    """
    The mean of all values, and of each subset.

    Args:
        items (`np.ndarray`, *optional*): the item of each value; default: values are of pairs.
    """
    items = preferences.pairs[0] if items is None else items
    subsets = np.array([preferences.items[number].subset for number in items])
    every = GroupMean(None, None, [(np.ones(len(items), bool), 1.0)])
    return [every, *(GroupMean("subset", name, [(subsets == name, 1.0)]) for name in preferences.subsets)]


def keep_items(items: list[PreferenceItem], name: str, skipped: dict[str, int] | None) -> Iterable[PreferenceItem]:
    """Each row is an item of its own."""
    return items


def accept(preferences: PreferenceSet):
    """Nothing to check beyond the rows."""


@dataclass(frozen=True)
class RowContext:
    """
    What is known when a row is read.

    Args:
        columns (`PreferenceColumns`): the names of the columns.
        file (`str`): the name of the data set.
        has_subsets (`bool`): whether any row has a subset, so that each must have one.
    """

    columns: PreferenceColumns
    file: str
    has_subsets: bool


@dataclass(frozen=True)
class Benchmark:
    """
    Args:
        name (`str`): its kind, as `--kind` and `results.json` call it.
        reads (`Callable`): whether rows are of this benchmark, by their columns: (rows, columns) -> bool.
        read_item (`Callable`): an item of a row: (row, number, context) -> [`PreferenceItem`]. A ValueError names the
            column; an `UnusableRow` may be left out.
        outcomes (`Callable`): what each decision counts: (preferences, rewards) -> [`Outcomes`].
        group_means (`Callable`): the accuracies to report as weighted means of outcomes, the overall one first.
        remarks (`Callable`): what distinguishes these numbers from those of the whole benchmark.
        noun (`str`): what accuracy counts: "pair", "prompt".
        mean (`str`, *optional*): what the overall accuracy is, where it is not the mean of all: "the mean of its ...".
        decisions (`Callable`, *optional*, defaults to `decide_items`): right or wrong, for paired comparisons.
        random_outcomes (`Callable`, *optional*, defaults to `count_random_pairs`): what random rewards count.
        ties (`Callable`, *optional*, defaults to `count_tied_pairs`): what counts as tied, and the groups whose
            shares of ties are reported.
        join_items (`Callable`, *optional*, defaults to `keep_items`): puts the items of several rows together.
        check (`Callable`, *optional*, defaults to `accept`): a ValueError if the items together make no sense.
        repositories (`Mapping`, *optional*): the benchmark's datasets on the Hub, each with the splits of its
            published results. Of several, each one is a subset.
    """

    name: str
    reads: Callable[[Sequence[Row], PreferenceColumns], bool]
    read_item: Callable[[Row, int, RowContext], PreferenceItem]
    outcomes: Callable[[PreferenceSet, np.ndarray], Outcomes]
    group_means: Callable[[PreferenceSet], list[GroupMean]]
    remarks: Callable[[PreferenceSet], list[str]]
    noun: str
    mean: str = ""
    decisions: Callable[[PreferenceSet, np.ndarray], Decisions] = decide_items
    random_outcomes: Callable[[PreferenceSet], Outcomes] = count_random_pairs
    ties: Callable[[PreferenceSet, np.ndarray], tuple[Outcomes, list[GroupMean]]] = count_tied_pairs
    join_items: Callable[[list[PreferenceItem], str, dict[str, int] | None], Iterable[PreferenceItem]] = keep_items
    check: Callable[[PreferenceSet], None] = accept
    repositories: Mapping[str, Sequence[str]] = field(default_factory=dict)
