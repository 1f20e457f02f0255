"""Prompts with several candidate answers each, and what every candidate is worth, from a file or the Hub."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from urm_hf.data.answers import Columns, list_answers, telling_answer
from urm_hf.data.content import says_nothing
from urm_hf.data.conversations import Conversation, read_answer
from urm_hf.data.errors import RowError, as_row_error
from urm_hf.data.formats.choices import list_candidates
from urm_hf.data.questions import find_question
from urm_hf.data.source import Source

COLUMNS = ("candidates", "responses", "completions")


@dataclass(frozen=True)
class Candidates:
    """
    The N answers to one prompt.

    Args:
        row (`int`): its number in the data.
        id (`Any`): as it stands there.
        prompt (`Any`): as it stands there.
        answers (`list[str]` or `list[Messages]`): the N answers.
        conversations (`list[Conversation | None]`): what is scored; None for an empty answer.
        fields (`list[dict]`): what else each answer has.
        gold (`np.ndarray` of shape `(N,)`, *optional*): what each is worth; higher is better.
    """

    row: int
    id: Any
    prompt: Any
    answers: list[Any]
    conversations: list[Conversation | None]
    fields: list[dict[str, Any]]
    gold: np.ndarray | None = None

    @property
    def key(self) -> str:
        """Equal for equal prompts."""
        return json.dumps(self.prompt, sort_keys=True, ensure_ascii=False)

    @property
    def lengths(self) -> np.ndarray:
        """Of each answer, in characters, (N,)."""
        return np.array([len(read_text(answer)) for answer in self.answers])

    @property
    def empty(self) -> np.ndarray:
        """Whether each answer says nothing, (N,). Such a one cannot be scored."""
        return np.array([says_nothing(answer) for answer in self.answers])


def read_candidates(source: Source, columns: Columns | None = None, gold: str | None = None) -> list[Candidates]:
    """
    The rows of the data.

    Args:
        source (`Source`): rows of any format that holds several answers to a prompt.
        columns (`Columns`, *optional*): the format, or where the question and the list of answers are.
        gold (`str`, *optional*): field of each candidate, or column with a list of as many numbers, that says what it
            is worth. Formats with ranks or ratings have it in `score`.

    Raises:
        ValueError: a row has no prompt or fewer than two candidates; gold is missing or not finite. Row and candidate
            are named.
    """
    rows = []
    for number, row in enumerate(map(source.row, source.items())):
        try:
            rows.append(_read_row(number, row, columns or Columns(), gold))
        except (ValueError, TypeError) as error:
            place = f"{source.name}, row {number}"
            raise as_row_error(error).at(place, file=source.name, row=number) from error
    return rows


def find_numeric_fields(rows: Sequence[Candidates]) -> list[str]:
    """Fields that every candidate has with a number: what `gold` might be called."""
    counts: Counter[str] = Counter()
    for row in rows:
        for own in row.fields:
            counts.update(name for name, value in own.items() if _is_number(value))
    candidates = sum(len(row.answers) for row in rows)
    return [name for name, count in counts.items() if count == candidates]


def read_text(answer: Any) -> str:
    """What an answer says: the text itself, or of messages their contents, one after the other."""
    return answer if isinstance(answer, str) else "".join(str(turn.get("content") or "") for turn in answer)


def _read_row(number: int, row: dict[str, Any], columns: Columns, gold: str | None) -> Candidates:
    row = list_candidates(columns.read(row))
    question = find_question(row, columns.prompt)
    if question is None:
        raise RowError(f"column `prompt` is missing or null; the row has {', '.join(sorted(row))}.", column="prompt")
    name = columns.answers[0] if columns.answers else None
    if name is None:
        name = next((known for known in COLUMNS if row.get(known) is not None), None)
    if name is None or row.get(name) is None:
        wanted = f"column `{name}`" if name else f"a column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}"
        raise RowError(f"{wanted} is missing or null; the row has {', '.join(sorted(row))}.", column=name)
    if not isinstance(row[name], list) or len(row[name]) < 2:
        what = f"{len(row[name])} of them" if isinstance(row[name], list) else type(row[name]).__name__
        raise RowError(f"`{name}` must be a list of two or more answers to choose from, got {what}.", column=name)
    answers, fields, conversations = [], [], []
    for place, answer, own in list_answers(name, row[name]):
        if not isinstance(answer, (str, list)):
            raise RowError(f"candidate {place} must be text or messages, got {type(answer).__name__}.", column=name)
        answers.append(answer)
        fields.append(own)
        with telling_answer(name, place):
            conversations.append(
                None if says_nothing(answer) else read_answer(row, name, answer, columns.prompt, [name])
            )
    return Candidates(
        row=number,
        id=row.get("id"),
        prompt=question.value,
        answers=answers,
        conversations=conversations,
        fields=fields,
        gold=None if gold is None else _read_gold(gold, row.get(gold), fields),
    )


def _read_gold(name: str, column: Any, fields: list[dict[str, Any]]) -> np.ndarray:
    """What each of the N candidates is worth, (N,): from the row's column of that name, or from their own fields."""
    values = [own.get(name) for own in fields] if column is None else column
    if not isinstance(values, list) or len(values) != len(fields):
        found = f"{len(values)} values" if isinstance(values, list) else repr(values)
        raise ValueError(f"`{name}` must hold a number for each of the {len(fields)} candidates, got {found}.")
    wrong = [number for number, value in enumerate(values) if not _is_number(value)]
    if wrong:
        value = values[wrong[0]]
        what = "missing" if value is None else f"{value!r}, not a finite number"
        known = ", ".join(sorted({key for own in fields for key in own})) or "none"
        others = f"; so it is with {len(wrong)} of {len(values)} candidates" if len(wrong) > 1 else ""
        raise ValueError(f"`{name}` of candidate {wrong[0]} is {what} (fields of the candidates: {known}){others}.")
    return np.array(values, dtype=np.float64)


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)
