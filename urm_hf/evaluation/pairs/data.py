"""
Preference data from a file or the Hub, in the forms in which it is published.

| kind | a row |
|---|---|
| pairs | `chosen` and `rejected`, text or messages, with or without a `prompt`, as in TRL; `subset` if there are any |
| rewardbench | the same, but a `prompt` of plain text is a user's turn; known by `chosen_model` and its subsets |
| rewardbench2 | `prompt`, lists of `chosen` and `rejected` texts, `num_correct`, `subset`, `id` |
| rmbench | `prompt`, lists of three `chosen` and `rejected` texts, `domain`; or pairs and their `chosen_style`, ... |
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from urm_hf.data.errors import RowError
from urm_hf.data.files import local_file
from urm_hf.data.formats.choices import rank_pairs
from urm_hf.data.formats.format import UNDECIDED, find_candidates
from urm_hf.data.formats.reading import drop_columns, read_row
from urm_hf.data.items import BadRow, Item
from urm_hf.data.source import Source
from urm_hf.data.tables import load_rows
from urm_hf.evaluation.benchmarks import BENCHMARKS, BY_NAME
from urm_hf.evaluation.benchmarks.benchmark import Benchmark, PreferenceSet, RowContext
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns, UnusableRow

ON_ERROR = ("raise", "skip")


def evaluation_rows(
    name_or_path: str,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    on_error: str = "raise",
) -> list[Any]:
    """
    Rows of a local file or a dataset of the Hub.

    Args:
        split: default: of RewardBench that of its published results, of its prior sets all of them, of other datasets
            of the Hub "train", of a file all its rows.
        on_error: "raise", or "skip" to keep a [`BadRow`] in the place of each line of a file that holds no row.
    """
    if on_error == "skip" and local_file(name_or_path) is not None:
        source = Source(name_or_path, split, config, revision)
        return [_row_or_error(source, item) for item in source.items()]
    # RewardBench's prior sets are splits of one repository, and subsets of one benchmark
    benchmark = find_benchmark_of_repository(name_or_path)
    splits = benchmark.repositories[name_or_path] if benchmark else []
    if len(splits) < 2:
        return list(load_rows(name_or_path, split or next(iter(splits), None), config, revision))
    rows = []
    for subset in [split] if split else splits:
        rows += [dict(row) | {"subset": subset} for row in load_rows(name_or_path, subset, config, revision)]
    return rows


def _row_or_error(source: Source, item: Item) -> dict[str, Any] | BadRow:
    try:
        return source.row(item)
    except RowError as error:
        return BadRow(error, b"")


def name_of(name_or_path: str) -> str:
    """What a data set is called: the end of its path, without the ending of a file."""
    return Path(name_or_path).name.split(".")[0]


def preferences_of(
    rows: Iterable[Mapping[str, Any] | BadRow],
    name: str,
    *,
    kind: str | Benchmark | None = None,
    columns: PreferenceColumns | None = None,
    on_error: str = "raise",
    format: str | None = None,
    ignore: Collection[str] = (),
) -> PreferenceSet:
    """
    Preferences from rows.

    Args:
        kind: a name of the table above, or a benchmark of your own; default: what the columns tell.
        on_error: "raise", or "skip" to leave out rows that no model can be judged by (a null or empty side, equal
            answers, messages out of order) and count them.
        format: of the rows, by name; default: what the columns tell, unless `columns` names them. Rows that prefer no
            answer are counted and left out.
        ignore: columns that are not looked at.

    Raises:
        ValueError: names the row, the column and what it holds.
    """
    if isinstance(kind, str) and kind not in BY_NAME:
        raise ValueError(f"`kind` must be one of {', '.join(BY_NAME)}, got {kind!r}.")
    if on_error not in ON_ERROR:
        raise ValueError(f"`on_error` must be one of {', '.join(ON_ERROR)}, got {on_error!r}.")
    rows, columns = list(rows), columns or PreferenceColumns()
    canonical = [_read_canonical(row, columns, format, ignore) for row in rows]
    whole = [row for row, _ in canonical if not isinstance(row, BadRow)]
    if not whole:
        raise ValueError(f"{name} holds no rows{' that can be read' if rows else ''}.")
    # rows of which none prefers an answer have columns all the same, by which the error below can name them
    readable = [pair for row in whole for pair in _find_pairs(row)] or whole
    _check_columns(readable[0], columns, name)
    benchmark = BY_NAME[kind] if isinstance(kind, str) else kind or find_benchmark(readable, columns)
    context = RowContext(columns, name, any(row.get(columns.subset) is not None for row in readable))
    items, skipped = [], dict[str, int]()
    for number, (row, refused) in enumerate(canonical):
        try:
            if isinstance(row, BadRow):
                raise UnusableRow(str(row.error).removesuffix("."), "Correct it.")
            pairs = _find_pairs(row)
            found = [benchmark.read_item(pair, number, context) for pair in pairs]
            if refused is not None:  # told last, as the benchmark's own errors say more of its rows
                raise UnusableRow("no format reads the whole row", refused)
            items += found
            if not pairs:
                why = f"no answer is preferred: {row.get(UNDECIDED) or 'candidates have one score'}"
                skipped[why] = skipped.get(why, 0) + 1
        except UnusableRow as error:
            if on_error == "raise":
                message = f'{name}, row {number}: {error} Or leave such rows out: on_error="skip" (--on-error skip).'
                raise RowError(message, file=name, row=number) from error
            skipped[error.reason] = skipped.get(error.reason, 0) + 1
        except ValueError as error:
            message = f"{name}, row {number}, read as {benchmark.name!r}: {error}"
            raise RowError(message, file=name, row=number) from error
    items = list(benchmark.join_items(items, name, skipped if on_error == "skip" else None))
    if not items:
        raise ValueError(f"{name}: all {len(rows)} rows were left out: {skipped}.")
    preferences = PreferenceSet(name, benchmark, items, skipped)
    benchmark.check(preferences)
    return preferences


def _read_canonical(
    row: Mapping[str, Any] | BadRow, columns: PreferenceColumns, format: str | None, ignore: Collection[str]
) -> tuple[Mapping[str, Any] | BadRow, str | None]:
    """
    The row in the form that scoring and training read, and why it has none.

    Where columns are named, whoever named them has said how to read them.
    """
    if isinstance(row, BadRow):
        return row, None
    row = drop_columns(row, ignore)
    if columns != PreferenceColumns(subset=columns.subset):
        return row, None
    try:
        read = read_row(row, format)
        _find_pairs(read)  # what cannot be compared is told with its row
        return read, None
    except ValueError as error:
        return row, str(error)


def _find_pairs(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The pairs of a canonical row of candidates; any other row is one, or is told by its benchmark."""
    return list(rank_pairs(row)) if _is_ranking(row) else [row]


def _is_ranking(row: Mapping[str, Any]) -> bool:
    candidates = find_candidates(row) or []
    scored = any(isinstance(one, Mapping) and "score" in one for one in candidates)
    return (scored or row.get(UNDECIDED) is not None) and "chosen" not in row


def find_benchmark(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> Benchmark:
    """The benchmark that the columns tell, the first row with answers, and for RewardBench its subsets' names."""
    return next(benchmark for benchmark in BENCHMARKS if benchmark.reads(rows, columns))


def find_benchmark_of_repository(name: str) -> Benchmark | None:
    """The benchmark that a repository of the Hub holds, if one is known to."""
    return next((benchmark for benchmark in BENCHMARKS if name in benchmark.repositories), None)


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
