"""
Preference data from a file or the Hub, in the forms in which it is published.

| kind | a row |
|---|---|
| pairs | `chosen` and `rejected`, text or messages, with or without a `prompt`, as in TRL; `subset` if there are any |
| rewardbench | the same, but a `prompt` of plain text is a user's turn; known by `chosen_model` and its subsets |
| rewardbench2 | `prompt`, lists of `chosen` and `rejected` texts, `num_correct`, `subset`, `id` |
| rmbench | `prompt`, lists of three `chosen` and `rejected` texts, `domain`; or pairs and their `chosen_style`, ... |
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from urm_hf.data.tables import load_rows
from urm_hf.evaluation.benchmarks import rewardbench, rewardbench2, rmbench
from urm_hf.evaluation.benchmarks.rows import (
    PreferenceColumns,
    UnusableRow,
    conversations_in,
    described,
    filled,
    form_of,
    reject_equal,
    subset_of,
)
from urm_hf.evaluation.preferences import KINDS, PreferenceItem, PreferenceSet

SPLITS = {"allenai/reward-bench": "filtered", "allenai/reward-bench-2": "test"}  # of the published results
ON_ERROR = ("raise", "skip")


def evaluation_rows(
    name_or_path: str, split: str | None = None, config: str | None = None, revision: str | None = None
) -> list[dict[str, Any]]:
    """
    Rows of a local file or a dataset of the Hub.

    Args:
        split: default: of RewardBench that of its published results, of its prior sets all of them, of other datasets
            of the Hub "train", of a file all its rows.
    """
    if name_or_path in rewardbench.PRIOR_SETS_REPOSITORIES:
        return list(_prior_sets(name_or_path, split, revision))
    return list(load_rows(name_or_path, split or SPLITS.get(name_or_path), config, revision))


def name_of(name_or_path: str) -> str:
    """What a data set is called: the end of its path, without the ending of a file."""
    return Path(name_or_path).name.split(".")[0]


def preferences_of(
    rows: Iterable[Mapping[str, Any]],
    name: str,
    *,
    kind: str | None = None,
    columns: PreferenceColumns | None = None,
    on_error: str = "raise",
) -> PreferenceSet:
    """
    Preferences from rows.

    Args:
        kind: one of the table above; default: what the columns tell.
        on_error: "raise", or "skip" to leave out rows that no model can be judged by (a null or empty side, equal
            answers, messages out of order) and count them.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    if kind not in (None, *KINDS):
        raise ValueError(f"`kind` must be one of {', '.join(KINDS)}, got {kind!r}.")
    if on_error not in ON_ERROR:
        raise ValueError(f"`on_error` must be one of {', '.join(ON_ERROR)}, got {on_error!r}.")
    rows, columns = list(rows), columns or PreferenceColumns()
    if not rows:
        raise ValueError(f"{name} holds no rows.")
    _check_columns(rows[0], columns, name)
    kind = kind or kind_of(rows, columns)
    read, items, skipped = _reader(rows, kind, columns, name), [], dict[str, int]()
    for number, row in enumerate(rows):
        try:
            items.append(read(row, number))
        except UnusableRow as error:
            if on_error == "raise":
                raise ValueError(
                    f'{name}, row {number}: {error} Or leave such rows out: on_error="skip" (--on-error skip).'
                ) from error
            skipped[error.reason] = skipped.get(error.reason, 0) + 1
        except ValueError as error:
            raise ValueError(f"{name}, row {number}, read as {kind!r}: {error}") from error
    if kind == "rmbench":
        items = list(rmbench.whole_items(items, name, skipped if on_error == "skip" else None))
    if not items:
        raise ValueError(f"{name}: all {len(rows)} rows were left out: {skipped}.")
    preferences = PreferenceSet(name, kind, items, skipped)
    if kind == "rewardbench":
        rewardbench.check_subsets(preferences)
    elif kind == "rewardbench2":
        rewardbench2.check_ties(preferences)
    return preferences


def kind_of(rows: list[Mapping[str, Any]], columns: PreferenceColumns) -> str:
    """The kind of data that the columns tell, the first row with answers, and for RewardBench its subsets' names."""
    first = next((row for row in rows if row.get(columns.chosen) and row.get(columns.rejected)), rows[0])
    if form_of(first[columns.chosen]) == form_of(first[columns.rejected]) == "answers":
        three_by_three = len(first[columns.chosen]) == len(first[columns.rejected]) == len(rmbench.STYLES)
        return "rmbench" if three_by_three and "num_correct" not in first else "rewardbench2"
    if "chosen_style" in first and "rejected_style" in first:
        return "rmbench"
    if "chosen_model" in first and any(row.get(columns.subset) in rewardbench.SECTION_OF for row in rows):
        return "rewardbench"
    return "pairs"


def _check_columns(first: Mapping[str, Any], columns: PreferenceColumns, name: str):
    default = PreferenceColumns()
    for role in ("chosen", "rejected", "prompt", "subset"):
        column = getattr(columns, role)
        needed = role in ("chosen", "rejected") or column != getattr(default, role)
        if needed and column not in first:
            raise ValueError(
                f"{name} has no column `{column}`; it has {', '.join(first)}. Name the column of the {role} "
                f'answers, prompts or subsets: PreferenceColumns({role}="...") (--{role}-column).'
            )


def _reader(
    rows: list[Mapping[str, Any]], kind: str, columns: PreferenceColumns, name: str
) -> Callable[[Mapping[str, Any], int], PreferenceItem]:
    """What makes an item of a row and its number."""
    if kind == "rewardbench2":
        return partial(rewardbench2.read_item, columns=columns)
    if kind == "rmbench":
        return partial(rmbench.read_item, columns=columns, file=name)
    chat = kind == "rewardbench"
    has_subsets = chat or any(row.get(columns.subset) is not None for row in rows)
    return partial(_read_pair, columns=columns, chat=chat, has_subsets=has_subsets)


def _read_pair(
    row: Mapping[str, Any], number: int, columns: PreferenceColumns, chat: bool, has_subsets: bool
) -> PreferenceItem:
    sides = {column: filled(row, column) for column in (columns.chosen, columns.rejected)}
    for column, value in sides.items():
        if form_of(value) == "answers":
            raise ValueError(
                f"`{column}` holds {described(value)}, not one answer. All rows must be of one form; several answers "
                'a side are kind="rewardbench2" or kind="rmbench".'
            )
    prompt = filled(row, columns.prompt) if columns.prompt in row else None
    key, (chosen, rejected) = conversations_in(prompt, sides, chat)
    reject_equal([chosen["completion"]], [rejected["completion"]])
    subset = subset_of(row, columns.subset) if has_subsets else None
    return PreferenceItem((chosen,), (rejected,), key or f"row {number}", subset, number)


def _prior_sets(name: str, split: str | None, revision: str | None) -> Iterator[dict[str, Any]]:
    """The sets of human preferences that were published before RewardBench, each one a subset."""
    for subset in [split] if split else rewardbench.PRIOR_SETS:
        for row in load_rows(name, subset, None, revision):
            yield {"prompt": row["prompt"], "chosen": row["chosen"], "rejected": row["rejected"], "subset": subset}
