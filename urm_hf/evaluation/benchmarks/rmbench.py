"""
RM-Bench (arXiv 2410.16184): right and wrong answers to a prompt, each in three styles, and all their pairs.

A pair is hard if the chosen answer is in a plainer style than the rejected one, normal if in the same, easy if in a
fancier one. A domain's accuracy is the mean over the three difficulties; a difficulty's, and the overall one, the mean
over the domains. The safety domain is its refusals and its responses together.

Rows are items with three `chosen` and three `rejected` answers, from plain to fancy, or pairs with `chosen_style` and
`rejected_style`: pairs of one prompt whose answers agree make up an item. An item may lack a style; its pairs then
count where they are.

Paper: Liu et al. (2024), "RM-Bench: Benchmarking Reward Models of Language Models with Subtlety and Style",
arXiv:2410.16184. Data: https://github.com/THU-KEG/RM-Bench, one file a domain.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from urm_hf.data.conversations import Conversation
from urm_hf.evaluation.benchmarks.benchmark import (
    Benchmark,
    PreferenceItem,
    PreferenceSet,
    RowContext,
    count_pairs,
    decide_pairs,
)
from urm_hf.evaluation.benchmarks.group_means import GroupMean
from urm_hf.evaluation.benchmarks.rows import (
    PreferenceColumns,
    find_first,
    find_form,
    read_answers,
    read_conversations,
    read_filled,
    reject_equal,
)

STYLES = ("concise", "detailed_plain", "detailed_markdown")  # from plain to fancy
DIFFICULTIES = ("easy", "normal", "hard")
DOMAINS = ("chat", "math", "code", "safety")
PARTS_OF_SAFETY = ("safety-refuse", "safety-response")


def reads(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> bool:
    """Whether rows have three answers a side, or pairs with their styles; RewardBench 2 counts its answers."""
    first = find_first(rows, columns)
    sides = [first[columns.chosen], first[columns.rejected]]
    if all(find_form(side) == "answers" for side in sides):
        return all(len(side) == len(STYLES) for side in sides) and "num_correct" not in first
    return "chosen_style" in first and "rejected_style" in first


def read_item(row: Mapping[str, Any], number: int, context: RowContext) -> PreferenceItem:
    """An item of three by three answers, or with one pair of them that `join_pairs` puts together with the others."""
    columns = context.columns
    subset = _domain(row, columns, context.file)
    if "chosen_style" in row:
        return _pair(row, number, columns, subset)
    sides = {column: read_answers(row, column) for column in (columns.chosen, columns.rejected)}
    for column, texts in sides.items():
        if len(texts) != len(STYLES):
            raise ValueError(f"`{column}` has {len(texts)} answers, not one in each style ({', '.join(STYLES)}).")
    answers = {f"{column}[{i}]": text for column, texts in sides.items() for i, text in enumerate(texts)}
    key, conversations = read_conversations(row, answers, columns, is_chat=True)
    reject_equal(conversations[:3], conversations[3:])
    styles = {"chosen_styles": (0, 1, 2), "rejected_styles": (0, 1, 2)}
    return PreferenceItem(tuple(conversations[:3]), tuple(conversations[3:]), key, subset, number, styles)


def join_pairs(items: list[PreferenceItem], name: str, skipped: dict[str, int] | None) -> Iterator[PreferenceItem]:
    """
    Items as they are, or pairs put together to items.

    Args:
        skipped: where to count the pairs of items that lack a pair of their answers; None: an error.
    """
    pairs = [item for item in items if "pair" in item.details]
    if not pairs:
        yield from items
        return
    if len(pairs) < len(items):
        other = next(item.row for item in items if "pair" not in item.details)
        raise ValueError(
            f"{name}, row {other}: several answers a side, but row {pairs[0].row} is a pair; use one form in all rows."
        )
    groups: dict[tuple[str, str | None], list[_Group]] = {}
    for pair in pairs:
        of_prompt = groups.setdefault((pair.prompt, pair.subset), [])
        group = next((group for group in of_prompt if group.takes(pair)), None)
        if group is None:
            of_prompt.append(group := _Group(pair))
        group.add(pair)
    for group in (group for of_prompt in groups.values() for group in of_prompt):
        if len(group.pairs) == len(group.chosen) * len(group.rejected):
            yield group.item()
            continue
        if skipped is None:
            raise ValueError(
                f"{name}, row {group.first.row}: of this item's {len(group.chosen)} chosen and {len(group.rejected)} "
                f"rejected answers only {len(group.pairs)} pairs are there. Add the other pairs, or leave such items "
                'out: on_error="skip" (--on-error skip).'
            )
        skipped["pairs of incomplete items"] = skipped.get("pairs of incomplete items", 0) + len(group.pairs)


def group_means(preferences: PreferenceSet) -> list[GroupMean]:
    """Overall, domains, difficulties, and the parts of the safety domain, of all pairs."""
    subsets = np.array([preferences.items[number].subset for number in preferences.pairs[0]])
    difficulties = _difficulties(preferences)
    domains = {}
    for domain in DOMAINS:
        names = [subset for subset in preferences.subsets if subset.startswith(domain)]
        if names:
            domains[_domain_name(domain, names)] = _cells(np.isin(subsets, names), difficulties)
    share = 1 / len(domains)
    of_all = [(mask, weight * share) for cells in domains.values() for mask, weight in cells.values()]
    means = [GroupMean(None, None, of_all)]
    means += [GroupMean("domain", domain, list(cells.values())) for domain, cells in domains.items()]
    for difficulty in DIFFICULTIES:
        masks = [cells[difficulty][0] for cells in domains.values() if difficulty in cells]
        if masks:
            means.append(GroupMean("difficulty", difficulty, [(mask, 1 / len(masks)) for mask in masks]))
    for part in PARTS_OF_SAFETY:
        if part in preferences.subsets:
            means.append(GroupMean("subset", part, list(_cells(subsets == part, difficulties).values())))
    return means


def remarks(preferences: PreferenceSet) -> list[str]:
    """What distinguishes these numbers from those of the whole benchmark; empty if nothing does."""
    there, found = preferences.subsets, []
    missing = [domain for domain in DOMAINS if not any(subset.startswith(domain) for subset in there)]
    if missing:
        found.append(
            f"Not RM-Bench's overall accuracy: {', '.join(missing)} missing; it and each difficulty's are means over "
            f"{len(DOMAINS) - len(missing)} of {len(DOMAINS)} domains."
        )
    if "safety" not in missing and "safety" not in there and not all(part in there for part in PARTS_OF_SAFETY):
        found.append(f"Safety has one part only: {', '.join(part for part in PARTS_OF_SAFETY if part in there)}.")
    short = sum(len(item.chosen) * len(item.rejected) < len(STYLES) ** 2 for item in preferences.items)
    if short:
        found.append(f"{short} of {len(preferences.items)} items lack a style, and count with the pairs they have.")
    return found


@dataclass
class _Group:
    """The pairs of one item, as far as they were read."""

    first: PreferenceItem
    chosen: dict[int, Conversation] = field(default_factory=dict)  # by style
    rejected: dict[int, Conversation] = field(default_factory=dict)
    pairs: set[tuple[int, int]] = field(default_factory=set)

    def takes(self, pair: PreferenceItem) -> bool:
        """Whether this pair is not there yet, and has the answers that the others have in its styles."""
        chosen, rejected = pair.details["pair"]
        return (
            (chosen, rejected) not in self.pairs
            and self.chosen.get(chosen, pair.chosen[0]) == pair.chosen[0]
            and self.rejected.get(rejected, pair.rejected[0]) == pair.rejected[0]
        )

    def add(self, pair: PreferenceItem):
        chosen, rejected = pair.details["pair"]
        self.pairs.add((chosen, rejected))
        self.chosen[chosen], self.rejected[rejected] = pair.chosen[0], pair.rejected[0]

    def item(self) -> PreferenceItem:
        styles = {"chosen_styles": tuple(sorted(self.chosen)), "rejected_styles": tuple(sorted(self.rejected))}
        return replace(
            self.first,
            chosen=tuple(self.chosen[style] for style in styles["chosen_styles"]),
            rejected=tuple(self.rejected[style] for style in styles["rejected_styles"]),
            details=styles,
        )


def _pair(row: Mapping[str, Any], number: int, columns: PreferenceColumns, subset: str) -> PreferenceItem:
    sides = {column: read_filled(row, column) for column in (columns.chosen, columns.rejected)}
    key, (chosen, rejected) = read_conversations(row, sides, columns, is_chat=True)
    reject_equal([chosen], [rejected])
    styles = []
    for column in ("chosen_style", "rejected_style"):
        if row.get(column) not in STYLES:
            raise ValueError(f"`{column}` must be one of {', '.join(STYLES)}, got {row.get(column)!r}.")
        styles.append(STYLES.index(row[column]))
    difficulty = _difficulty(*styles)
    if row.get("difficulty") not in (None, difficulty):
        raise ValueError(f"`difficulty` is {row['difficulty']!r}, but a pair of these styles is {difficulty!r}.")
    return PreferenceItem((chosen,), (rejected,), key, subset, number, {"pair": tuple(styles)})


def _domain(row: Mapping[str, Any], columns: PreferenceColumns, file: str) -> str:
    """The domain of a row, or its part of safety: from the column `domain`, else its subset, else the file's name."""
    if row.get("domain") is not None:
        names = [str(row["domain"])]
    else:
        subset = row.get(columns.subset)
        names = [file.split("_")[0]] if subset is None else [str(subset), file.split("_")[0]]
    for name in names:
        if name.removeprefix("rmb-").startswith(DOMAINS):
            return name.removeprefix("rmb-")
    raise ValueError(
        f"of no domain of RM-Bench: {' and '.join(map(repr, names))} should begin with {', '.join(DOMAINS)}. Add a "
        "column `domain`."
    )


def _domain_name(domain: str, subsets: list[str]) -> str:
    parts = [part for part in PARTS_OF_SAFETY if part in subsets]
    return f"{domain} ({parts[0]} only)" if domain == "safety" and subsets == parts and len(parts) == 1 else domain


def _difficulty(chosen_style: int, rejected_style: int) -> str:
    return DIFFICULTIES[int(np.sign(rejected_style - chosen_style)) + 1]


def _difficulties(preferences: PreferenceSet) -> np.ndarray:
    """(P) of each pair, in the order of `preferences.pairs`."""
    return np.array(
        [
            _difficulty(chosen, rejected)
            for item in preferences.items
            for chosen in item.details["chosen_styles"]
            for rejected in item.details["rejected_styles"]
        ]
    )


def _cells(mask: np.ndarray, difficulties: np.ndarray) -> dict[str, tuple[np.ndarray, float]]:
    """The pairs of each difficulty within a mask, equally weighted."""
    cells = {name: mask & (difficulties == name) for name in DIFFICULTIES}
    there = {name: cell for name, cell in cells.items() if cell.any()}
    return {name: (cell, 1 / len(there)) for name, cell in there.items()}


RMBENCH = Benchmark(
    name="rmbench",
    reads=reads,
    read_item=read_item,
    outcomes=count_pairs,
    group_means=group_means,
    remarks=remarks,
    noun="pair",
    mean="the mean of its domains",
    decisions=decide_pairs,
    join_items=join_pairs,
)
