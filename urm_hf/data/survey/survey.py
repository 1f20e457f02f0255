"""
One pass over the rows of a file, and what is found on the way: formats, conversations, numbers, and what looks wrong.

What grows with the data are digests of prompts and conversations, 8 bytes each and what a set needs around them.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from urm_hf.data.answers import list_conversations
from urm_hf.data.conversations import Conversation
from urm_hf.data.formats.format import UNDECIDED, Format, Row, find_candidates
from urm_hf.data.formats.reading import find_format, kind_of, read_with
from urm_hf.data.ratings import read_cell
from urm_hf.data.seen import read_form
from urm_hf.data.survey.columns import OTHER_ROLES, Column, add_columns
from urm_hf.data.survey.numbers import NumberColumn

MOST_TOLD = 5  # bad rows of one kind that are named one by one
# that a chat template writes: in a text they say that one was applied already
TEMPLATE_MARKS = (
    *("<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|endoftext|>"),
    *("[INST]", "[/INST]", "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "<|user|>", "<|assistant|>", "</s>"),
    *("### Response:", "### Instruction:", "<extra_id_1>"),
)
# what files call an answer that no format reads beside a prompt alone
ANSWER_NAMES = ("answer", "answers", "reply", "output", "outputs", "generation", "generated_text", "model_output")
NOT_RATINGS = (
    "id",
    "hash",
    "idx",
    "index",
    "turn",
    "turns",
    "split",
    "row",
    "line",
    "length",
    "seed",
    "timestamp",
    "tstamp",
)


@dataclass
class Problem:
    """Rows that have one fault. `rows`: the numbers of the first ones."""

    count: int = 0
    rows: list[int] = field(default_factory=list)
    _last: int | None = None

    def add(self, row: int):
        if row == self._last:  # both sides of a pair may have it: it is one row all the same
            return
        self._last = row
        self.count += 1
        if len(self.rows) < MOST_TOLD:
            self.rows.append(row)


@dataclass
class WrittenColumn:
    """
    A column of text that may hold ratings.

    Args:
        filled (`int`): cells that are not empty. numbers (`NumberColumn`): those that are numbers. odd (`tuple`): the
            first that is none, and its row.
    """

    filled: int = 0
    numbers: NumberColumn = field(default_factory=NumberColumn)
    odd: tuple[int, str] | None = None

    def describe(self, name: str) -> str | None:
        """What is to be said of it if it is not taken for ratings; None of a column that does not look like them."""
        if 2 * self.numbers.rows <= self.filled:  # text, in which a number stands now and then
            return None
        if self.odd is None:
            remedy = f"name it (`--attributes {name}`) or write numbers, if they are ratings"
            return f"`{name}` holds numbers that are written as text, and is not taken for ratings: {remedy}"
        row, value = self.odd
        return (
            f"`{name}` holds numbers in {self.numbers.rows:,} of {self.filled:,} rows, but {value!r:.60} in row "
            f"{row}, and is not taken for ratings: write a number there, or null, if they are"
        )


@dataclass
class Survey:
    """
    Args:
        shown (`list`): the first conversations, as [`Conversation`].
        lengths (`Counter`): conversations by length, in tokens with a tokenizer, else in characters.
        limit (`int`, *optional*): longest conversation that can be scored.
        problems (`dict[str, Problem]`): rows that are refused, by what is said of them.
        warnings (`dict[str, Problem]`): rows that are read and look wrong.
        undecided (`Counter`): rows that prefer no answer, by why.
        numbers (`dict[str, NumberColumn]`): ratings by attribute, and columns of numbers.
        unread_numbers (`dict[str, str]`): what is to be said of columns of text that look like ratings and are not
            taken for them.
        forms (`Counter`): conversations by what they are read as: "chat", "text" or "exact".
    """

    rows: int = 0
    formats: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    columns: dict[str, Column] = field(default_factory=dict)
    shown: list[Conversation] = field(default_factory=list)
    conversations: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    limit: int | None = None
    problems: dict[str, Problem] = field(default_factory=dict)
    warnings: dict[str, Problem] = field(default_factory=dict)
    undecided: Counter[str] = field(default_factory=Counter)
    numbers: dict[str, NumberColumn] = field(default_factory=dict)
    unread_numbers: dict[str, str] = field(default_factory=dict)
    prompts: int = 0
    repeated_prompts: int = 0
    repeated_conversations: int = 0
    longer_chosen: int = 0
    compared: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    shared_prompts: int = 0
    forms: Counter[str] = field(default_factory=Counter)

    @property
    def over_limit(self) -> int:
        """Conversations that are longer than the limit."""
        return sum(count for length, count in self.lengths.items() if self.limit is not None and length > self.limit)

    def quantile(self, share: float) -> int:
        """The length that this share of the conversations does not exceed."""
        wanted, seen = share * sum(self.lengths.values()), 0
        for length in sorted(self.lengths):
            seen += self.lengths[length]
            if seen >= wanted:
                return length
        return 0


class Surveyor:
    """
    Args:
        tokenizer (`PreTrainedTokenizerBase`, *optional*): conversations are encoded by it, and lengths are in tokens.
        limit (`int`, *optional*): longest conversation, in tokens.
        format (`str`, *optional*): of the rows; default: what each row tells.
        ignore (`Collection[str]`): columns that are not looked at.
        show (`int`, defaults to 1): how many conversations are kept to be shown.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase | None = None,
        limit: int | None = None,
        format: str | None = None,
        ignore: Collection[str] = (),
        show: int = 1,
    ):
        self.tokenizer, self.format, self.ignore, self.show = tokenizer, format, ignore, show
        self.found = Survey(limit=limit if tokenizer is not None else None)
        self._written: dict[str, WrittenColumn] = {}
        self._prompts: dict[int, str | None] = {}  # digest of a prompt, and the split that it was first seen in
        self._shared: set[int] = set()
        self._conversations: set[int] = set()

    def add(self, row: Row):
        """The next row; it is counted whatever it holds."""
        found, number = self.found, self.found.rows
        found.rows += 1
        split = row.get("split")
        if isinstance(split, str):
            found.splits[split] += 1
        read_by: Format | None = None
        try:
            seen = {name: value for name, value in row.items() if name not in self.ignore}
            read_by = find_format(seen, self.format)
            canonical = read_with(read_by, row, self.ignore)
            self._add_kind(read_by, canonical)
            self._check_answers(number, canonical)
            conversations = list_conversations(canonical)
            self._add_conversations(number, conversations)
            self._add_pair(number, canonical, conversations)
            self._add_prompt(canonical, conversations, split)
            self._add_numbers(canonical)
        except ValueError as error:
            self.refuse(str(error), number)
        columns = (*read_by.columns, *read_by.optional) if read_by is not None else ()
        self._add_written({name: value for name, value in row.items() if name not in (*columns, *self.ignore)})
        add_columns(found.columns, row, columns, found.numbers)

    def finish(self) -> Survey:
        """
        After the last row: columns of text in which only numbers are written, as in CSV files, are numbers where there
        are no others. Those that are not taken for ratings, and look like them, are told.
        """
        found = self.found
        if not found.numbers:
            found.numbers = {name: column.numbers for name, column in self._written.items() if column.odd is None}
            for name in found.numbers:
                found.columns[name].role = "ratings"
        for name, column in self._written.items():
            if name not in found.numbers and (told := column.describe(name)) is not None:
                found.unread_numbers[name] = told
            elif name in found.numbers and column.odd is not None:  # numbers in the other rows
                row, value = column.odd
                found.unread_numbers[name] = f"`{name}` holds {value!r:.60} in row {row}, which is not a number"
        return found

    def _add_written(self, unread: Row):
        for name, value in unread.items():
            if not value or not isinstance(value, str) or name in OTHER_ROLES or _counts_something(name):
                continue
            number = read_cell(value)
            column = self._written.setdefault(name, WrittenColumn())
            column.filled += 1
            if _is_numeric(number):
                column.numbers.add(number)
            elif column.odd is None:
                column.odd = self.found.rows - 1, value

    def skip(self, told: str):
        """The next row is none: why."""
        self.refuse(told, self.found.rows)
        self.found.rows += 1

    def refuse(self, told: str, number: int):
        """A row that cannot be used, and why."""
        self.found.problems.setdefault(told, Problem()).add(number)

    def warn(self, told: str, number: int):
        self.found.warnings.setdefault(told, Problem()).add(number)

    def _add_kind(self, read_by: Format, canonical: Row):
        self.found.formats[read_by.name] += 1
        self.found.kinds[kind_of(canonical)] += 1
        if canonical.get(UNDECIDED) is not None:
            self.found.undecided[str(canonical[UNDECIDED])] += 1

    def _check_answers(self, number: int, canonical: Row):
        """Whether a row that is a prompt alone has an answer under a name that is not read."""
        if kind_of(canonical) != "prompt":
            return
        name = next((name for name in canonical if str(name).lower() in ANSWER_NAMES and canonical[name]), None)
        if name is not None:
            self.warn(
                f"column `{name}` may be an answer, and is not read: rename it to `response`, or name it to "
                f"`urm score` (`--answer-columns {name}`)",
                number,
            )

    def _add_conversations(self, number: int, conversations: list[Conversation]):
        found = self.found
        for conversation in conversations:
            # without a tokenizer in characters, which tells long from short, though not what a model has room for
            length = len(conversation.encode(self.tokenizer)) if self.tokenizer else len(text_of(conversation))
            found.conversations += 1
            found.lengths[length] += 1
            found.forms[read_form(conversation)] += 1
            key = _digest(
                conversation.key
            )  # 8 bytes a conversation; by chance two of a million agree once in 10^7 files
            found.repeated_conversations += key in self._conversations
            self._conversations.add(key)
            if len(found.shown) < self.show:
                found.shown.append(conversation)
            self._check_text(number, conversation)

    def _check_text(self, number: int, conversation: Conversation):
        if conversation.ids is not None:
            return
        text = text_of(conversation)
        if not text.strip() and not any(turn.get("tool_calls") for turn in conversation.turns or ()):
            self.refuse("the conversation says nothing. Fill it in, or leave the row out.", number)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self.refuse("half of a surrogate pair stands in the text, which is no character", number)
        mark = next((mark for mark in TEMPLATE_MARKS if mark in text), None)
        if mark is not None:
            self.warn(f"{mark} stands in the text, as if a chat template had been applied already", number)
        if "�" in text:
            self.warn("� stands in the text: it was decoded wrongly before", number)

    def _add_pair(self, number: int, canonical: Row, conversations: list[Conversation]):
        if kind_of(canonical) != "pair" or len(conversations) != 2:
            return
        chosen, rejected = conversations
        if chosen.key == rejected.key:
            self.warn("`chosen` and `rejected` are equal", number)
            return
        lengths = [len(text_of(side)) for side in (chosen, rejected)]
        if lengths[0] != lengths[1]:
            self.found.compared += 1
            self.found.longer_chosen += lengths[0] > lengths[1]

    def _add_prompt(self, canonical: Row, conversations: list[Conversation], split: Any):
        prompt = conversations[0].prompt if conversations else canonical.get("prompt")
        if not prompt:
            return
        key, found = _digest(str(prompt)), self.found
        if key not in self._prompts:
            self._prompts[key] = split if isinstance(split, str) else None
            found.prompts += 1
            return
        found.repeated_prompts += 1
        if isinstance(split, str) and self._prompts[key] != split and key not in self._shared:
            self._shared.add(key)
            found.shared_prompts += 1

    def _add_numbers(self, canonical: Row):
        scales = canonical.get("scale") if isinstance(canonical.get("scale"), dict) else {}
        for name, value in find_numbers(canonical):
            self.found.numbers.setdefault(name, NumberColumn()).add(value, (scales or {}).get(name))


def text_of(conversation: Conversation) -> str:
    """All that is said in a conversation; of token ids nothing."""
    if conversation.text is not None:
        return conversation.text
    return "\n".join(str(turn.get("content") or "") for turn in conversation.turns or ())


def find_numbers(canonical: Row) -> Iterator[tuple[str, Any]]:
    """Names and values of what could be ratings: those in `ratings`, columns of numbers, and those of candidates."""
    ratings = canonical.get("ratings")
    if isinstance(ratings, dict):
        yield from ((name, value) for name, value in ratings.items() if _is_numeric(value))
    for name, value in canonical.items():
        if name != "input_ids" and _is_numeric(value) and not _counts_something(name):
            yield name, value
    for candidate in find_candidates(canonical) or []:
        if isinstance(candidate, dict):
            yield from find_numbers({name: value for name, value in candidate.items() if name != "candidates"})


def _is_numeric(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        given = [one for one in value if one is not None]
        return bool(given) and all(_is_numeric(one) and not isinstance(one, (list, tuple)) for one in given)
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _counts_something(name: str) -> bool:
    lowered = name.lower()
    if not lowered or lowered.startswith("unnamed:"):  # the index that pandas writes in front, and what it reads it as
        return True
    return lowered.endswith(("_id", "_ids", "_idx")) or lowered.startswith(("num_", "n_")) or lowered in NOT_RATINGS


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
