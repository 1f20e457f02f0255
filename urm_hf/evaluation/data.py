"""A data set to evaluate on, of any kind, and how results.json describes it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.data import load_rows
from urm_hf.evaluation.accuracy import remarks
from urm_hf.evaluation.preference_data import load_preferences
from urm_hf.evaluation.preference_rows import PreferenceColumns
from urm_hf.evaluation.preferences import PreferenceSet
from urm_hf.evaluation.rating_data import RatingSet, rating_set

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
        source: a file, or a dataset of the Hub.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    kind = options.kind or (RATINGS if _is_rated(source, options) else None)
    if kind == RATINGS:
        rows = load_rows(source, options.split, options.config, options.revision)
        name = Path(source).name.split(".")[0]
        content: PreferenceSet | RatingSet = rating_set(
            rows, name, attributes=options.attributes, skip_unrated=options.on_error == "skip"
        )
    else:
        content = load_preferences(
            source,
            split=options.split,
            config=options.config,
            revision=options.revision,
            kind=kind,
            columns=options.columns,
            on_error=options.on_error,
        )
    prompts = content.prompts if isinstance(content, RatingSet) else [item.prompt for item in content.items]
    kept = _drawn(prompts, options.max_prompts, options.seed)
    left_out = {}
    if len(kept) < len(prompts):
        left_out = {f"not among the {options.max_prompts} prompts drawn": len(prompts) - len(kept)}
        content = _only(content, kept)
    return EvaluationData(content, _description(content, source, options, left_out))


def distinct_names(data: Sequence[EvaluationData]) -> list[EvaluationData]:
    """The same; of files of one name, each with its number."""
    names = [one.name for one in data]
    renamed = []
    for number, one in enumerate(data):
        if names.count(one.name) > 1:
            name = f"{one.name} ({names[: number + 1].count(one.name)})"
            one = EvaluationData(replace(one.content, name=name), one.description | {"name": name})
        renamed.append(one)
    return renamed


def _is_rated(source: str, options: DataOptions) -> bool:
    if options.attributes:
        return True
    columns = load_rows(source, options.split, options.config, options.revision).column_names
    return RATINGS in columns and options.columns.chosen not in columns


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
