"""A data set to evaluate on, of any kind, and how results.json describes it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.evaluation.benchmarks.rewardbench import PRIOR_SETS_REPOSITORIES
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns
from urm_hf.evaluation.pairs.accuracy import remarks
from urm_hf.evaluation.pairs.data import evaluation_rows, name_of, preferences_of
from urm_hf.evaluation.preferences import PreferenceSet
from urm_hf.evaluation.ratings.data import RatingSet, rating_set

RATINGS = "ratings"  # the kind, and the column that tells it


@dataclass(frozen=True)
class DataOptions:
    """
    Args:
        kind: "pairs", "rewardbench", "rewardbench2", "rmbench" or "ratings"; None: what the columns tell.
        columns: of preferences. attributes: columns of ratings; None: all that the column `ratings` holds.
        on_error: "raise", or "skip" to leave out unusable rows and count them.
        max_prompts: so many prompts are drawn with `seed`, with all that belongs to them.
    """

    kind: str | None = None
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    columns: PreferenceColumns = field(default_factory=PreferenceColumns)
    attributes: Sequence[str] | None = None
    on_error: str = "raise"
    max_prompts: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class EvaluationData:
    """Preferences or ratings. description: the entry of `data` in results.json."""

    content: PreferenceSet | RatingSet
    description: dict[str, Any]

    @property
    def name(self) -> str:
        return self.content.name

    @property
    def conversations(self) -> list[Any]:
        return self.content.conversations

    @property
    def origins(self) -> list[str]:
        """Where each conversation comes from, for errors."""
        if isinstance(self.content, PreferenceSet):
            return self.content.origins
        return [f"{self.name}, conversation {number}" for number in range(len(self.conversations))]


def load_data(source: str, options: DataOptions) -> EvaluationData:
    """
    Args:
        source: a file, or a dataset of the Hub; several of preferences, joined by commas, make one data set.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    sources = parts_of(source)
    folder = next((part for part in sources if Path(part).is_dir()), None)
    if not sources or folder is not None:
        told = "it is a folder" if folder else "there is nothing between the commas"
        raise ValueError(f"--data {source!r}: {told}; name files, or datasets of the Hub.")
    if len(set(sources)) < len(sources):
        raise ValueError(f"{source}: a part is named twice.")
    parts = [_content(part, options) for part in sources]
    content = parts[0] if len(parts) == 1 else joined(parts)
    prompts = content.prompts if isinstance(content, RatingSet) else [item.prompt for item in content.items]
    kept = _drawn(prompts, options.max_prompts, options.seed)
    left_out = {}
    if len(kept) < len(prompts):
        left_out = {f"not among the {options.max_prompts} prompts drawn": len(prompts) - len(kept)}
        content = _only(content, kept)
    return EvaluationData(content, _description(content, source, options, left_out))


def parts_of(source: str) -> list[str]:
    """The files or datasets that are joined by commas; one whose name has a comma is itself."""
    return [source] if Path(source).exists() else [part for part in source.split(",") if part]


def joined(parts: Sequence[PreferenceSet | RatingSet]) -> PreferenceSet:
    """
    One set of the items of several, as of RewardBench in several files.

    Raises:
        ValueError: they are not preferences of one kind.
    """
    names = "+".join(part.name for part in parts)
    kinds = {part.name: part.kind if isinstance(part, PreferenceSet) else RATINGS for part in parts}
    if len(set(kinds.values())) > 1 or RATINGS in kinds.values():
        told = ", ".join(f"{name} is of kind {kind!r}" for name, kind in kinds.items())
        raise ValueError(f"{names}: only preferences of one kind can be joined; {told}. Say which with --kind.")
    sets = [part for part in parts if isinstance(part, PreferenceSet)]
    skipped: dict[str, int] = {}
    for part in sets:
        for reason, count in part.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    items = [replace(item, file=part.name) for part in sets for item in part.items]
    return PreferenceSet(names, sets[0].kind, items, skipped)


def distinct_names(data: Sequence[EvaluationData]) -> list[EvaluationData]:
    """The same; of files of one name, each with its number."""
    names = [one.name for one in data]
    renamed = []
    for number, name in enumerate(names):
        several = names.count(name) > 1
        renamed.append(f"{name} ({names[: number + 1].count(name)})" if several else name)
    return named(data, renamed)


def named(data: Sequence[EvaluationData], names: Sequence[str]) -> list[EvaluationData]:
    """The same by other names."""
    return [
        EvaluationData(replace(one.content, name=name), one.description | {"name": name})
        for one, name in zip(data, names, strict=True)
    ]


def _content(source: str, options: DataOptions) -> PreferenceSet | RatingSet:
    rows = evaluation_rows(source, options.split, options.config, options.revision)
    name, kind = name_of(source), options.kind
    rated = bool(options.attributes) or RATINGS in rows[0] and options.columns.chosen not in rows[0]
    if kind == RATINGS or (kind is None and rated):
        return rating_set(rows, name, attributes=options.attributes, skip_unrated=options.on_error == "skip")
    if kind is None and source in PRIOR_SETS_REPOSITORIES:
        kind = "rewardbench"
    return preferences_of(rows, name, kind=kind, columns=options.columns, on_error=options.on_error)


def _drawn(prompts: Sequence[Hashable], count: int | None, seed: int) -> list[int]:
    """Rows of so many prompts, in their order."""
    distinct = list(dict.fromkeys(prompts))
    if count is None or count >= len(distinct):
        return list(range(len(prompts)))
    chosen = {distinct[k] for k in np.random.default_rng(seed).permutation(len(distinct))[:count]}
    return [number for number, prompt in enumerate(prompts) if prompt in chosen]


def _only(content: PreferenceSet | RatingSet, rows: list[int]) -> PreferenceSet | RatingSet:
    if isinstance(content, PreferenceSet):
        return replace(content, items=[content.items[row] for row in rows])
    return replace(
        content,
        conversations=[content.conversations[row] for row in rows],
        prompts=[content.prompts[row] for row in rows],
        ratings=content.ratings[rows],
    )


def _description(
    content: PreferenceSet | RatingSet, source: str, options: DataOptions, left_out: dict[str, int]
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": content.name,
        "source": source,
        "revision": options.revision,
        "split": options.split,
    }
    if isinstance(content, RatingSet):
        described |= {"kind": RATINGS, "rows": len(content.prompts), "prompts": len(set(content.prompts))}
        return described | {"skipped": content.skipped | left_out, "subsets": {}, "remarks": []}
    described |= {"kind": content.kind, "rows": len(content.items), "prompts": content.prompts}
    left_out = content.skipped | left_out
    return described | {"skipped": left_out, "subsets": content.subsets, "remarks": remarks(content)}
