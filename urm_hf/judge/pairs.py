"""Two answers to one instruction, from rows of any form that holds such, for a judge that reads text."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversations import Conversation, Messages, check_messages, split_turns
from urm_hf.data.errors import RowError, as_row_error
from urm_hf.data.source import Source
from urm_hf.judge.prompt import Text, as_data


@dataclass(frozen=True)
class Pair:
    """
    Two answers to one instruction.

    Args:
        row (`int`): its number in the data.
        columns (`dict`): of the row, to write beside the verdict.
        instruction (`str` or `list[dict]`): the text of a single user's turn, or the turns that the answers share.
        a (`str` or `list[dict]`): the answer that wins or loses.
        b (`str` or `list[dict]`): the other.
        names (`tuple[str, str]`): the columns they come from, such as ("chosen", "rejected").
    """

    row: int
    columns: dict[str, Any]
    instruction: Text
    a: Text
    b: Text
    names: tuple[str, str]

    @property
    def prompt(self) -> str:
        """A digest that pairs of one prompt have in common."""
        return hashlib.blake2b(as_data(self.instruction).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def answers(self, order: int) -> tuple[Text, Text]:
        """The answers as a judge sees them: a first in order 0, b first in order 1."""
        return (self.a, self.b) if order == 0 else (self.b, self.a)


def read_pairs(source: Source, columns: Columns) -> Iterator[Pair]:
    """
    The pair in each row.

    Args:
        source ([`Source`]): the rows.
        columns ([`Columns`]): what they call their parts.

    Raises:
        ValueError: a row does not hold two answers to one instruction; it is named.
    """
    for number, item in enumerate(source.items()):
        row = source.row(item)
        with _name_row(source.name, number):
            found = conversations_of(row, columns)
            if len(found) != 2:
                raise ValueError(
                    f"it holds {len(found)} answers (columns: {', '.join(row)}); a judge compares two: name their "
                    "columns with --answer-columns, or a second file with --against."
                )
            names = [written["answer_column"] for written, _ in found]
            if names[0] == names[1]:
                names = [f"{name}[{index}]" for index, name in enumerate(names)]
            instruction, a, b = _split_shared(*(_read_turns(conversation) for _, conversation in found))
        yield Pair(number, row, instruction, a, b, (names[0], names[1]))


def match_pairs(source: Source, other: Source, columns: Columns) -> Iterator[Pair]:
    """
    Each answer of a source beside that of another source to the same instruction, whatever its place there.

    Args:
        source ([`Source`]): the answers that win or lose, in whose order the pairs come.
        other ([`Source`]): the answers against them, which are held in memory.
        columns ([`Columns`]): what the rows of both call their parts.

    Raises:
        ValueError: a row holds no single answer, or an instruction occurs twice or in one of the two only.
    """
    answers: dict[str, tuple[int, Text]] = {}
    for number, _, instruction, answer in _read_single_answers(other, columns):
        before = answers.setdefault(as_data(instruction), (number, answer))
        if before[0] != number:
            raise ValueError(f"{other.name}, row {number}: the prompt is that of row {before[0]}; keep one answer.")
    used: dict[str, int] = {}
    for number, row, instruction, answer in _read_single_answers(source, columns):
        prompt = as_data(instruction)
        with _name_row(source.name, number):
            if prompt not in answers:
                raise ValueError(f"{other.name} has no answer to its prompt.")
            if used.setdefault(prompt, number) != number:
                raise ValueError(f"the prompt is that of row {used[prompt]}; keep one answer.")
            if "against" in row:
                raise ValueError("the answer of the other file would overwrite its column `against`; rename that.")
        against = answers[prompt][1]
        yield Pair(number, row | {"against": against}, instruction, answer, against, ("data", "against"))
    if len(used) < len(answers):
        first = next(number for prompt, (number, _) in answers.items() if prompt not in used)
        raise ValueError(
            f"{other.name} has {len(answers) - len(used)} prompts that {source.name} has not, the first in row "
            f"{first}; give both files the same prompts."
        )


@contextmanager
def _name_row(source: str, row: int) -> Iterator[None]:
    """Errors inside name the row."""
    try:
        yield
    except (ValueError, TypeError, KeyError) as error:
        raise as_row_error(error).at(f"{source}, row {row}", file=source, row=row) from error


def _read_single_answers(source: Source, columns: Columns) -> Iterator[tuple[int, dict[str, Any], Text, Text]]:
    for number, item in enumerate(source.items()):
        row = source.row(item)
        with _name_row(source.name, number):
            found = conversations_of(row, columns)
            if len(found) != 1:
                raise ValueError(f"it holds {len(found)} answers; with --against each row has one.")
            turns = _read_turns(found[0][1])
        yield number, row, _simplify(turns[:-1]), _simplify(turns[-1:])


def _read_turns(conversation: Conversation) -> Messages:
    """The turns, with all that they hold; plain text that continues a prompt is an answer to it."""
    if conversation.turns is not None:
        turns = list(conversation.turns)
    elif conversation.text is not None and conversation.prompt_length:
        turns = [*split_turns(conversation.prompt), {"role": "assistant", "content": conversation.answer}]
    else:
        raise RowError("it has no prompt beside its answer: name the column with --prompt-column.")
    check_messages(turns)
    return [{"content": "", **turn} for turn in turns]


def _split_shared(a: Messages, b: Messages) -> tuple[Text, Text, Text]:
    """The turns that two conversations begin with, and how each goes on."""
    length = 0
    # the last turn of neither is shared: two answers that are equal are still answers
    while length < min(len(a), len(b)) - 1 and a[length] == b[length]:
        length += 1
    if length == 0 or "user" in (a[length]["role"], b[length]["role"]):
        raise ValueError("the two answers are to different prompts: they part before the assistant speaks.")
    return _simplify(a[:length]), _simplify(a[length:]), _simplify(b[length:])


def _simplify(turns: Messages) -> Text:
    """A single turn as its text, if it has nothing else."""
    alone = len(turns) == 1 and turns[0].keys() == {"role", "content"} and turns[0]["role"] in ("user", "assistant")
    return turns[0]["content"] if alone else turns
