"""Datasets of rows become datasets of token ids, by the one encoder of conversations; what is wrong is told by row."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset

from urm_hf.data.conversations import read_conversation
from urm_hf.data.encoder import LONGEST, Encoder, check_max_length, embeddings_of, positions_of
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.outputs import json_lines
from urm_hf.data.row_numbers import drop_number, numbers_of
from urm_hf.data.seen import mark_conversation, summarize_seen

logger = logging.getLogger(__name__)

ON_ERROR = ("raise", "skip")
MOST_NAMED = 10  # rows that an error names
# columns of a dataset while it is encoded
_CUT, _PROBLEM, _MARKS = "_cut", "_problem", "_marks"


def column_names(dataset: Dataset | IterableDataset) -> list[str]:
    """Names of the columns, also of a stream that tells them only with its first row."""
    return list(dataset.column_names or next(iter(dataset)))


def longest_for(config, max_length: int | None) -> int | None:
    """
    The limit that holds for a model: 4096 tokens are too many for one with fewer positions.

    Raises:
        ValueError: another limit is beyond the model's positions.
    """
    positions = positions_of(config)
    if max_length == LONGEST and positions is not None:
        return min(LONGEST, positions)
    check_max_length(max_length, config)
    return positions if max_length is None else max_length


def encoder_for(config, tokenizer, args) -> Encoder:
    """The encoder of a training run, by its arguments."""
    return Encoder(tokenizer, args.max_length, args.truncation, embeddings_of(config))


@dataclass(frozen=True)
class RowPlan:
    """
    What a row of a dataset becomes.

    Args:
        ids (`dict`): for each column of ids to make, the column with the answer (None: `completion` or `response`).
        extra (`Callable`): from a row and its number to what else the new row holds.
        blank (`dict`): what it would hold for a row that is left out; only the types matter.
        check (`Callable`, *optional*): raises a `ValueError` about a new row.
        problems (`dict[int, str]`, *optional*): what is wrong with which rows, where that takes all rows to tell.
    """

    ids: Mapping[str, str | None]
    extra: Callable[[dict[str, Any], int], dict[str, Any]] = lambda row, number: {}
    blank: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[dict[str, Any]], None] | None = None
    problems: Mapping[int, str] = field(default_factory=dict)

    def encode(self, row: dict[str, Any], number: int, encoder: Encoder) -> dict[str, Any]:
        """
        The new row, and whether anything was cut.

        Raises:
            RowError: the row cannot be used.
        """
        with telling_rows():
            new, cut, marks = dict(self.extra(row, number)), False, []
            for ids_column, answer_column in self.ids.items():
                conversation = read_conversation(row, answer_column)
                encoded = encoder.encode(conversation)
                new[ids_column] = encoded.ids
                cut = cut or encoded.cut
                marks.append(mark_conversation(conversation))
            if self.check is not None:
                self.check(new)
        return new | {_CUT: cut, _PROBLEM: "", _MARKS: marks}

    def fill_blank(self, problem: str) -> dict[str, Any]:
        """In place of a row that cannot be used: `map` has to give a row for each, and all of the same types."""
        blank = {**self.blank, **{column: [0] for column in self.ids}}
        return blank | {_CUT: False, _PROBLEM: problem, _MARKS: [""]}


@dataclass
class EncodingReport:
    """
    What became of the rows of a dataset.

    Args:
        skipped (`list[dict]`): for each that is left out its number, the reason, and what it holds.
        marks (`list[str]`): of the conversations of all others (`urm_hf.data.seen.mark_conversation`).
    """

    skipped: list[dict[str, Any]] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


def encode_dataset(
    dataset: Dataset | IterableDataset,
    encoder: Encoder,
    plan: RowPlan,
    *,
    name: str,
    on_error: str = "raise",
    folder: str | Path | None = None,
    num_proc: int | None = None,
    seen: dict[str, Any] | None = None,
    report: EncodingReport | None = None,
) -> Dataset | IterableDataset:
    """
    Encodes every row. Rows that are cut or dropped are counted and logged.

    Args:
        dataset (`Dataset` or `IterableDataset`): rows as they were given.
        encoder (`Encoder`): makes token ids of a conversation.
        plan (`RowPlan`): what a row becomes.
        name (`str`): what errors call the dataset, such as "train".
        on_error (`str`, *optional*, defaults to `"raise"`): "raise" names all rows that cannot be used, "skip" leaves
            them out, counts them and writes them to `<folder>/<name>.skipped.jsonl`.
        folder (`str` or `Path`, *optional*): where skipped rows are written; nowhere by default.
        num_proc (`int`, *optional*): processes.
        seen (`dict`, *optional*): gets what the model's config records of these conversations
            (`urm_hf.data.seen.summarize_seen`); of a stream nothing.
        report ([`EncodingReport`], *optional*): gets what became of the rows. Whoever passes one tells which are left
            out: nothing is logged of them, nor written. Of a stream it gets nothing.

    Raises:
        RowError: rows cannot be used, or none is left.
    """
    given = column_names(dataset)
    if isinstance(dataset, IterableDataset):
        return _encode_stream(dataset, encoder, plan, given, name, on_error)

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        # not raised here: an error in `map` ends it, and all rows that cannot be used are to be told at once
        try:
            return plan.encode(drop_number(row), number, encoder)
        except RowError as error:
            return plan.fill_blank(str(error))

    encoded = dataset.map(
        encode, with_indices=True, remove_columns=given, desc=f"Tokenizing {name} dataset", num_proc=num_proc
    )
    found = {place: problem for place, problem in enumerate(encoded[_PROBLEM]) if problem}
    problems = {**plan.problems, **found}  # one problem is told of a row: what its own columns say comes first
    if problems and on_error == "raise":
        raise _describe_unusable(_number(problems, dataset), name)
    if problems:
        _leave_out(dataset, problems, name, folder, report)
        encoded = encoded.select([place for place in range(len(dataset)) if place not in problems])
        if not len(encoded):
            raise _describe_unusable(_number(problems, dataset), name)
    encoded = _drop_long_rows(encoded, encoder, name)
    if seen is not None or report is not None:
        marks = [mark for marks in encoded[_MARKS] for mark in marks]
        if seen is not None:
            seen |= summarize_seen(marks)
        if report is not None:
            report.marks += marks
    return encoded.remove_columns([_CUT, _PROBLEM, _MARKS])


def _encode_stream(
    dataset: IterableDataset, encoder: Encoder, plan: RowPlan, given: list[str], name: str, on_error: str
) -> IterableDataset:
    if encoder.truncation != "error" and encoder.max_length is not None:
        raise ValueError(
            f"truncation={encoder.truncation!r} on the streaming dataset {name!r}: what is cut could not be counted "
            "in advance. Load the dataset without streaming, or cut its rows yourself."
        )

    def encode(row: dict[str, Any], number: int) -> dict[str, Any]:
        try:
            return plan.encode(row, number, encoder)
        except RowError as error:
            if on_error == "raise":
                raise error.at(f"row {number} of the {name} dataset", row=number) from error
            logger.warning("Left out row %d of the %s dataset: %s", number, name, error)
            return plan.fill_blank(str(error))

    # a stream has no end at which all could be told: the first row that cannot be used ends it, or is left out
    encoded = dataset.map(encode, with_indices=True, remove_columns=given)
    if on_error == "skip":
        encoded = encoded.filter(lambda problem: not problem, input_columns=_PROBLEM)
    return encoded.remove_columns([_CUT, _PROBLEM, _MARKS])


def _drop_long_rows(encoded: Dataset, encoder: Encoder, name: str) -> Dataset:
    """Counts what was cut, and drops it where that was asked."""
    affected, dropped = sum(encoded[_CUT]), encoder.truncation == "drop"  # "drop" has the encoder cut as well
    if affected:
        what = "dropped" if dropped else f"truncated on the {encoder.truncation}"
        message = "%d of %d rows of the %s dataset are over %d tokens: %s."
        logger.warning(message, affected, len(encoded), name, encoder.max_length, what)
    if not dropped:
        return encoded
    kept = encoded.filter(lambda cut: not cut, input_columns=_CUT, desc=f"Dropping over-long {name} rows")
    if not len(kept):
        raise ValueError(f"all rows of the {name} dataset are over max_length={encoder.max_length} and were dropped.")
    return kept


def _number(problems: Mapping[int, str], dataset: Dataset) -> list[tuple[int, str]]:
    """
    The number of each row that cannot be used where it comes from, and what is wrong with it.

    Several rows of a dataset may come from one, of which they are the pairs or the answers: what is wrong with all of
    them alike is told once.
    """
    numbers = numbers_of(dataset)
    return sorted({(numbers[place], problem) for place, problem in problems.items()})


def _describe_unusable(problems: Sequence[tuple[int, str]], name: str) -> RowError:
    """One error for all rows that cannot be used: the first of them, then the others by what is wrong with them."""
    first, its_problem = problems[0]
    message = f"row {first} of the {name} dataset: {its_problem}"
    named = problems[1:MOST_NAMED]
    if named:
        # grouped: a column that is wrong is wrong in many rows, and a message of ten like lines hides the eleventh
        by_reason: dict[str, list[int]] = {}
        for number, problem in named:
            by_reason.setdefault(problem, []).append(number)
        alike = by_reason.pop(its_problem, [])
        told = [f"the same in {_list_rows(alike)}"] if alike else []
        told += [f"{_list_rows(rows)}: {reason.rstrip('.')}" for reason, rows in by_reason.items()]
        more = len(problems) - MOST_NAMED
        told += [f"{more} more"] if more > 0 else []
        message += f" {len(problems)} rows cannot be used; {'; '.join(told)}."
    return RowError(f'{message} Or leave such rows out: `on_error="skip"`.', row=first)


def _list_rows(numbers: list[int]) -> str:
    return ("row " if len(numbers) == 1 else "rows ") + ", ".join(map(str, numbers))


def _leave_out(
    dataset: Dataset,
    problems: Mapping[int, str],
    name: str,
    folder: str | Path | None,
    report: EncodingReport | None,
):
    """Tells which rows are left out, and writes them with the reasons; or reports them."""
    places, numbers = sorted(problems), numbers_of(dataset)
    lines = (_tell_row(dataset[at], numbers[at], problems[at]) for at in places)
    if report is not None:
        report.skipped += lines
        return
    listed = ", ".join(str(numbers[place]) for place in places[:MOST_NAMED])
    listed += ", ..." if len(places) > MOST_NAMED else ""
    where = ""
    if folder is not None:
        path = Path(folder) / f"{name}.skipped.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json_lines(list(lines)))
        where = f" See {path}."
    message = "Left out %d of %d rows of the %s dataset that cannot be used: %s.%s"
    logger.warning(message, len(places), len(dataset), name, listed, where)


def _tell_row(row: dict[str, Any], number: int, reason: str) -> dict[str, Any]:
    """A line of the side file."""
    return {"row": number, "reason": reason, "data": drop_number(row)}
