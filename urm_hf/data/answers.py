"""
The conversations in a row of any common form, and what of the row is written beside the score of each.

A row with one conversation stays as it is. One with several (`chosen` and `rejected`, or a list of candidates) becomes
one row for each: its other columns, `answer_column`, `answer_index`, `response`, and a candidate's own fields.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from urm_hf.data.content import is_messages
from urm_hf.data.conversations import (
    ANSWER_COLUMNS,
    AS_TEXT,
    Conversation,
    read_answer,
    read_conversation,
)
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.formats.question_columns import is_question, may_ask
from urm_hf.data.formats.reading import drop_columns, format_named, kind_of, read_row
from urm_hf.data.formats.values import is_text
from urm_hf.data.questions import check_unread

__all__ = ["AS_TEXT", "Columns", "conversations_of", "list_answers", "telling_answer"]

SINGLE = ("messages", "text", "input_ids", *ANSWER_COLUMNS)  # columns that make a row a conversation
SEVERAL = (("chosen", "rejected"), ("candidates",), ("responses",), ("completions",))  # that hold more than one
ANSWER_KEYS = ("response", "completion", "content", "text")  # where a candidate's answer is


@dataclass(frozen=True)
class Columns:
    """
    Which columns to read. Where none is named, the format of the rows says so.

    Args:
        prompt, messages, text (`str`, *optional*): columns with a question, whole conversations, and plain texts.
        answers (`tuple[str, ...]`, *optional*): columns with answers.
        format (`str`, *optional*): of the rows, by name; default: what each row tells.
        ignore (`tuple[str, ...]`, defaults to none): columns that are not looked at.
    """

    prompt: str | None = None
    answers: tuple[str, ...] | None = None
    messages: str | None = None
    text: str | None = None
    format: str | None = None
    ignore: tuple[str, ...] = ()

    def __post_init__(self):
        if self.format is not None and self.named:
            raise ValueError("`format` says which columns are read; leave the names of single columns out.")
        if self.format is not None:  # an unknown one would else be a fault of every row, and skipped with them
            format_named(self.format)

    @property
    def named(self) -> bool:
        """Whether single columns are named, so that the format of the rows says nothing."""
        return any(name is not None for name in (self.prompt, self.answers, self.messages, self.text))

    def read(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The canonical row, or the row as it is where its columns are named: without what is not looked at."""
        seen = drop_columns(row, self.ignore)
        return seen if self.named else read_row(seen, self.format)


def list_conversations(row: Mapping[str, Any]) -> list[Conversation]:
    """The conversations of a canonical row, in the order of its answers; none of a prompt without an answer."""
    if kind_of(row) == "prompt":
        return []
    return [conversation for _, conversation in conversations_in(dict(row), Columns())]


def conversations_of(row: dict[str, Any], columns: Columns) -> list[tuple[dict[str, Any], Conversation]]:
    """
    Each conversation of a row: the columns to write beside its score, and what is scored.

    Raises:
        RowError: a column that was named is not there, an answer is of no known form, or something that looks like
            the question would not be read.
    """
    with telling_rows():
        found = conversations_in(columns.read(row), columns)
    # what nobody looks at is written all the same
    ignored = {name: row[name] for name in columns.ignore if name in row}
    return [({**written, **drop_columns(ignored, written)}, conversation) for written, conversation in found]


def conversations_in(row: dict[str, Any], columns: Columns) -> list[tuple[dict[str, Any], Conversation]]:
    """The same of a canonical row, or of one whose columns are named."""
    with telling_rows():
        for kind in ("messages", "text"):
            name = getattr(columns, kind)
            if name is not None:
                also = {other: row.get(other) for other in ("tools", "chat_template_kwargs", "system")}
                return [(row, read_conversation(also | {kind: _value(row, name)}))]
        names = columns.answers or _answer_columns(row)
        if columns.answers and columns.prompt is None and row.get("prompt") is None:
            alone = all(is_text(row.get(name)) for name in columns.answers)
            check_unread(row, columns.answers, "", may_ask if alone else is_question)
        if names is None:
            return [(row, read_conversation(row, prompt_column=columns.prompt))]
        found = [(name, *answer) for name in names for answer in list_answers(name, _value(row, name))]
        if len(names) == 1 and (not isinstance(row[names[0]], list) or is_messages(row[names[0]])):
            return [(row, read_answer(row, names[0], found[0][2], columns.prompt, names))]
        rest = {name: value for name, value in row.items() if name not in names}
        conversations = []
        for name, number, answer, own in found:
            with telling_answer(name, number):
                conversation = read_answer(row, name, answer, columns.prompt, names)
            conversations.append((_joined(rest, name, number, answer, own), conversation))
        return conversations


def _answer_columns(row: dict[str, Any]) -> tuple[str, ...] | None:
    several = next((names for names in SEVERAL if any(row.get(name) is not None for name in names)), None)
    if several == ("chosen", "rejected") and row.get("messages") is not None:
        # UltraFeedback as H4 binarized it repeats the better side: a row is not read as less than it has
        last = read_conversation({"messages": row["messages"]}).answer
        sides = [_last_turn(read_answer(row, name, _value(row, name)).answer) for name in several]
        if _last_turn(last) in sides:
            return several
        raise RowError("`messages` holds another conversation than `chosen` and `rejected`; leave one of them out.")
    single = [name for name in SINGLE if row.get(name) is not None]
    if several == ("chosen", "rejected") and single and set(single) <= set(ANSWER_COLUMNS) and kind_of(row) == "pair":
        raise RowError(
            f"the row holds `{single[0]}` beside `chosen` and `rejected`, so that it is not known which is meant. "
            "Name the answers with `answer_columns`, or leave the others out.",
            column=single[0],
        )
    return None if single else several


def _last_turn(answer: Any) -> Any:
    return answer if isinstance(answer, str) else answer and answer[-1].get("content")


def _value(row: dict[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise RowError(f"column `{name}` is missing or null; the row has {', '.join(sorted(row))}.", column=name)
    return row[name]


@contextmanager
def telling_answer(name: str, number: int) -> Iterator[None]:
    """Errors inside say which of a row's answers they are about."""
    try:
        yield
    except RowError as error:
        raise RowError(f"{error} (`{name}`, answer {number})", column=error.column or name) from error


def list_answers(name: str, value: Any) -> Iterator[tuple[int, Any, dict[str, Any]]]:
    """Number, answer and further fields of each candidate of a column."""
    candidates = value if isinstance(value, list) and not is_messages(value) else [value]
    if not candidates:
        raise RowError(f"`{name}` is empty.")
    for number, candidate in enumerate(candidates):
        own: dict[str, Any] = {}
        if isinstance(candidate, dict) and "role" not in candidate:  # not a turn, which is an answer as it is
            key = next((key for key in ANSWER_KEYS if candidate.get(key) is not None), None)
            if key is None:
                raise RowError(f"`{name}`[{number}] has no {' or '.join(ANSWER_KEYS)}; it has {sorted(candidate)}.")
            own = {other: inner for other, inner in candidate.items() if other != key}
            candidate = candidate[key]
        yield number, candidate, own


def _joined(rest: dict[str, Any], name: str, number: int, answer: Any, own: dict[str, Any]) -> dict[str, Any]:
    new = {"answer_column": name, "answer_index": number, "response": answer, **own}
    both = sorted(rest.keys() & new.keys())
    if both:
        raise RowError(f"the columns {both} would be written twice, for the row and for its answer; rename them.")
    return rest | new
