"""
Pairs of a better and a worse answer, of any data set: the benchmark of all that is no other's.

A pair counts 1 if its chosen answer has the higher reward; overall accuracy is the mean of all pairs, beside the mean
of each subset. Rows have `chosen` and `rejected`, text or messages, with or without a `prompt`, as in TRL.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from urm_hf.evaluation.benchmarks.benchmark import (
    Benchmark,
    PreferenceItem,
    PreferenceSet,
    RowContext,
    compute_subset_means,
    count_pairs,
)
from urm_hf.evaluation.benchmarks.rows import (
    PreferenceColumns,
    describe_value,
    find_form,
    read_conversations,
    read_filled,
    read_subset,
    reject_equal,
)


def reads(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> bool:
    """Any rows: other benchmarks are asked before."""
    return True


def read_item(row: Mapping[str, Any], number: int, context: RowContext) -> PreferenceItem:
    """A pair in any of TRL's forms; a prompt of plain text goes without a chat template, as there."""
    return read_pair(row, number, context.columns, is_chat=False, has_subsets=context.has_subsets)


def read_pair(
    row: Mapping[str, Any], number: int, columns: PreferenceColumns, *, is_chat: bool, has_subsets: bool
) -> PreferenceItem:
    """
    An item with one answer a side.

    Args:
        is_chat (`bool`): whether a prompt of plain text is a user's turn.
        has_subsets (`bool`): whether the row must name its subset.
    """
    sides = {column: read_filled(row, column) for column in (columns.chosen, columns.rejected)}
    for column, value in sides.items():
        if find_form(value) == "answers":
            raise ValueError(
                f"`{column}` holds {describe_value(value)}, not one answer. All rows must be of one form; several "
                'answers a side are kind="rewardbench2" or kind="rmbench".'
            )
    key, (chosen, rejected) = read_conversations(row, sides, columns, is_chat=is_chat)
    reject_equal([chosen], [rejected])
    subset = read_subset(row, columns.subset) if has_subsets else None
    return PreferenceItem((chosen,), (rejected,), key or f"row {number}", subset, number)


def remarks(preferences: PreferenceSet) -> list[str]:
    """None: these numbers stand for themselves."""
    return []


PAIRS = Benchmark(
    name="pairs",
    reads=reads,
    read_item=read_item,
    outcomes=count_pairs,
    group_means=compute_subset_means,
    remarks=remarks,
    noun="pair",
)
