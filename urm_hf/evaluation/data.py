"""A data set to evaluate on, of any kind, and how results.json describes it."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from urm_hf.data.errors import RowError
from urm_hf.data.formats.choices import split_candidates
from urm_hf.data.formats.reading import drop_columns, format_named, kind_of, read_row
from urm_hf.data.items import BadRow
from urm_hf.evaluation.benchmarks.benchmark import Benchmark, PreferenceSet
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns
from urm_hf.evaluation.pairs.data import evaluation_rows, find_benchmark_of_repository, name_of, preferences_of
from urm_hf.evaluation.ratings.data import RATINGS, RatingSet, holds_ratings, rating_set


class EvaluationSet(Protocol):
    """
    What preferences and ratings have in common, for all that is not about how they are measured.

    name, kind: of the data set; the kind is a benchmark's name, or "ratings". conversations (N): to score. origins
    (N): where each comes from, for errors. prompts: of each row, by which rows are drawn. skipped: rows left out, by
    reason. subsets: rows by subset. remarks: what a reader must know of these rows. noun, mean: what is counted, and
    what the overall number is a mean of.
    """

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def conversations(self) -> list[Any]: ...

    @property
    def origins(self) -> list[str]: ...

    @property
    def prompts(self) -> list[str]: ...

    @property
    def skipped(self) -> dict[str, int]: ...

    @property
    def subsets(self) -> dict[str, int]: ...

    @property
    def remarks(self) -> list[str]: ...

    @property
    def noun(self) -> str: ...

    @property
    def mean(self) -> str: ...

    def select(self, rows: Sequence[int]) -> "EvaluationSet":
        """The same set of these rows alone."""

    def rename(self, name: str) -> "EvaluationSet":
        """The same set by another name."""


@dataclass(frozen=True)
class DataOptions:
    """
    Args:
        kind: the name of a benchmark, a `Benchmark` of your own, or "ratings"; None: what the columns tell.
        columns: of preferences. attributes: columns of ratings; None: all that the column `ratings` holds.
        on_error: "raise", or "skip" to leave out unusable rows and count them.
        format: of the rows, by name; default: what their columns tell. ignore: columns that are not looked at.
        max_prompts: so many prompts are drawn with `seed`, with all that belongs to them.
    """

    kind: str | Benchmark | None = None
    split: str | None = None
    config: str | None = None
    revision: str | None = None
    columns: PreferenceColumns = field(default_factory=PreferenceColumns)
    attributes: Sequence[str] | None = None
    on_error: str = "raise"
    format: str | None = None
    ignore: Sequence[str] = ()
    max_prompts: int | None = None
    seed: int = 0

    def __post_init__(self):
        if self.format is not None:  # an unknown one would else be a fault of every row, and skipped with them
            format_named(self.format)


@dataclass(frozen=True)
class EvaluationData:
    """Preferences or ratings. description: the entry of `data` in results.json."""

    content: EvaluationSet
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
        return self.content.origins


def load_data(source: str, options: DataOptions) -> EvaluationData:
    """
    Args:
        source: a file, or a dataset of the Hub; several of preferences, joined by commas, make one data set.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    sources = split_sources(source)
    folder = next((part for part in sources if Path(part).is_dir()), None)
    if not sources or folder is not None:
        told = "it is a folder" if folder else "there is nothing between the commas"
        raise ValueError(f"--data {source!r}: {told}; name files, or datasets of the Hub.")
    if len(set(sources)) < len(sources):
        raise ValueError(f"{source}: a part is named twice.")
    parts = [_read_set(part, options) for part in sources]
    content = parts[0] if len(parts) == 1 else join_preferences(parts)
    prompts = content.prompts
    kept = _draw_rows(prompts, options.max_prompts, options.seed)
    left_out = {}
    if len(kept) < len(prompts):
        left_out = {f"not among the {options.max_prompts} prompts drawn": len(prompts) - len(kept)}
        content = content.select(kept)
    return EvaluationData(content, _describe(content, source, options, left_out))


def split_sources(source: str) -> list[str]:
    """The files or datasets that are joined by commas; one whose name has a comma is itself."""
    return [source] if Path(source).exists() else [part for part in source.split(",") if part]


def join_preferences(parts: Sequence[EvaluationSet]) -> PreferenceSet:
    """
    One set of the items of several, as of RewardBench in several files.

    Raises:
        ValueError: they are not preferences of one kind.
    """
    names = "+".join(part.name for part in parts)
    kinds = {part.name: part.kind for part in parts}
    if len(set(kinds.values())) > 1 or RATINGS in kinds.values():
        told = ", ".join(f"{name} is of kind {kind!r}" for name, kind in kinds.items())
        raise ValueError(f"{names}: only preferences of one kind can be joined; {told}. Say which with --kind.")
    sets = cast(list[PreferenceSet], parts)  # no other kind is left
    skipped: dict[str, int] = {}
    for part in sets:
        for reason, count in part.skipped.items():
            skipped[reason] = skipped.get(reason, 0) + count
    items = [replace(item, file=part.name) for part in sets for item in part.items]
    return PreferenceSet(names, sets[0].benchmark, items, skipped)


def number_names(data: Sequence[EvaluationData]) -> list[EvaluationData]:
    """The same; of files of one name, each with its number."""
    names = [one.name for one in data]
    renamed = []
    for number, name in enumerate(names):
        several = names.count(name) > 1
        renamed.append(f"{name} ({names[: number + 1].count(name)})" if several else name)
    return rename_data(data, renamed)


def rename_data(data: Sequence[EvaluationData], names: Sequence[str]) -> list[EvaluationData]:
    """The same by other names."""
    return [
        EvaluationData(one.content.rename(name), one.description | {"name": name})
        for one, name in zip(data, names, strict=True)
    ]


def _read_set(source: str, options: DataOptions) -> EvaluationSet:
    rows = evaluation_rows(source, options.split, options.config, options.revision, options.on_error)
    name, kind = name_of(source), options.kind
    readable = [row for row in rows if not isinstance(row, BadRow)]
    rated = options.attributes or _is_rated(readable, options)
    if kind == RATINGS or (kind is None and rated):
        return _read_ratings(rows, name, options)
    if kind is None:
        kind = find_benchmark_of_repository(source)
    return preferences_of(
        rows,
        name,
        kind=kind,
        columns=options.columns,
        on_error=options.on_error,
        format=options.format,
        ignore=options.ignore,
    )


def _is_rated(rows: Sequence[Mapping[str, Any]], options: DataOptions) -> bool:
    """Whether rows have one answer each, which is rated, by the canonical form of the first one."""
    try:
        first = read_row(rows[0], options.format, options.ignore) if rows else {}
    except ValueError:  # told where all rows are read
        return holds_ratings(rows, options.columns)
    return kind_of(first) == "conversation" and holds_ratings([first], options.columns)


def _read_ratings(rows: Sequence[Any], name: str, options: DataOptions) -> RatingSet:
    """Ratings of the answers of all rows; each candidate of a row is one."""
    answers: list[Any] = []
    for number, row in enumerate(rows):
        if isinstance(row, BadRow):
            answers.append(row)
            continue
        try:
            answers += split_candidates(read_row(drop_columns(row, options.ignore), options.format))
        except ValueError as error:
            told = RowError(f"{name}, row {number}: {error}", file=name, row=number)
            if options.on_error == "raise":
                raise told from error
            answers.append(BadRow(told, b""))
    return rating_set(answers, name, attributes=options.attributes, skip_unrated=options.on_error == "skip")


def _draw_rows(prompts: Sequence[Hashable], count: int | None, seed: int) -> list[int]:
    """Rows of so many prompts, in their order."""
    distinct = list(dict.fromkeys(prompts))
    if count is None or count >= len(distinct):
        return list(range(len(prompts)))
    chosen = {distinct[k] for k in np.random.default_rng(seed).permutation(len(distinct))[:count]}
    return [number for number, prompt in enumerate(prompts) if prompt in chosen]


def _describe(content: EvaluationSet, source: str, options: DataOptions, left_out: dict[str, int]) -> dict[str, Any]:
    return {
        "name": content.name,
        "source": source,
        "revision": options.revision,
        "split": options.split,
        "kind": content.kind,
        "rows": len(content.prompts),
        "prompts": len(set(content.prompts)),
        "skipped": content.skipped | left_out,
        "subsets": content.subsets,
        "remarks": content.remarks,
        "noun": content.noun,
        "mean": content.mean,
    }
