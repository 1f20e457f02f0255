"""
From a row to a conversation, and to token ids: the one reading by which all is trained on, scored and evaluated.

| a row | becomes |
|---|---|
| `[{"role": ..., "content": ...}, ...]` or `{"messages": [...]}` | the tokenizer's chat template |
| `{"prompt": [messages], "completion" or "response": str or [messages]}` | the same, prompt and answer joined |
| `{"prompt": str, "response": str}`, as in HelpSteer2 | the same; `<extra_id_1>` splits the prompt into turns |
| `{"prompt": ..., "chosen": [the whole conversation]}` | the same; the prompt is not repeated |
| `{"prompt": str, "completion": str}`, as standard in TRL | plain text, with BOS and EOS as in TRL's RewardTrainer |
| `str` or `{"text": str}` | that text exactly: no BOS, EOS or template is added |
| `{"input_ids": [...]}` | those ids |

Rows of all other known formats are read as one of these by `urm_hf.data.formats`.

`tools` and `chat_template_kwargs` beside messages go to the chat template. A second BOS is never added: templates
bring their own, and tokenizers are called without special tokens on their text.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedTokenizerBase

from urm_hf.data.content import (
    FILL_IN,
    Messages,
    check_messages,
    messages_from_json,
    read_messages,
    split_turns,
)
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.formats.format import UNDECIDED
from urm_hf.data.formats.reading import read_row
from urm_hf.data.questions import Question, check_unread, find_question, with_system
from urm_hf.data.rendering import check_ids, encode_text, encode_turns
from urm_hf.data.template_columns import read_template_columns

__all__ = [
    "ANSWER_COLUMNS",
    "AS_TEXT",
    "TRUNCATIONS",
    "Conversation",
    "Messages",
    "check_messages",
    "check_truncation",
    "encode_conversation",
    "limit_length",
    "read_answer",
    "read_conversation",
    "split_turns",
]

TRUNCATIONS = ("error", "left", "right", "drop")
ANSWER_COLUMNS = ("completion", "response")
AS_TEXT = ("chosen", "rejected", "completion", "completions")  # beside a prompt of plain text, continue it as text
_LISTS = ("candidates", "responses", "completions")
_WHOLE = ("user", "system", "developer")  # roles that begin a conversation, and never an answer


@dataclass(frozen=True)
class Conversation:
    """
    A conversation to score, in exactly one of three forms.

    Args:
        turns (`tuple[dict]`, *optional*): for the chat template: `role`, `content` as text, and whatever else the
            template may print, such as `tool_calls`, `name` and `reasoning_content`.
        text (`str`, *optional*): plain text.
        ids (`tuple[int]`, *optional*): token ids.
        tools (`list`, *optional*), chat_template_kwargs (`dict`): what the chat template gets besides the turns.
        closed (`bool`): of text, whether it gets BOS and EOS as TRL's RewardTrainer adds them, or is taken exactly.
        prompt_length (`int`, *optional*): how many turns, or characters, stand before the answer, where the row says.
    """

    turns: tuple[dict[str, Any], ...] | None = None
    text: str | None = None
    ids: tuple[int, ...] | None = None
    tools: list[Any] | None = None
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    closed: bool = False
    prompt_length: int | None = None

    @property
    def key(self) -> str:
        """A digest of exactly what is encoded: equal for two conversations that any tokenizer gives the same ids."""
        if self.turns is not None:
            told: Any = ["turns", self.turns, self.tools, self.chat_template_kwargs]
        elif self.text is not None:
            told = ["text", self.text, self.closed]
        else:
            told = ["ids", self.ids]
        return digest(told)

    @property
    def prompt(self) -> Any:
        """What stands before the answer: turns or text; None where the row does not tell it from the answer."""
        if self.turns is not None:
            return list(self.turns[: -1 if self.prompt_length is None else self.prompt_length])
        return None if self.text is None or self.prompt_length is None else self.text[: self.prompt_length]

    @property
    def answer(self) -> Any:
        """What follows the prompt: turns or text; of token ids None."""
        if self.turns is not None:
            return list(self.turns[-1 if self.prompt_length is None else self.prompt_length :])
        return None if self.text is None else self.text[self.prompt_length or 0 :]

    def as_row(self) -> dict[str, Any]:
        """A row of a JSON-lines file that reads as this conversation."""
        if self.ids is not None:
            return {"input_ids": list(self.ids)}
        if self.text is not None:
            length = self.prompt_length or 0
            return (
                {"prompt": self.text[:length], "completion": self.text[length:]}
                if self.closed
                else {"text": self.text}
            )
        row: dict[str, Any] = {"messages": list(self.turns or ())}
        if self.tools:
            row["tools"] = self.tools
        return row | ({"chat_template_kwargs": self.chat_template_kwargs} if self.chat_template_kwargs else {})

    def encode(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """
        Token ids.

        Raises:
            RowError: roles are out of order, an answer is empty, or the template or the tokenizer refuses it.
        """
        with telling_rows():
            if self.ids is not None:
                return check_ids(self.ids, tokenizer)
            if self.text is not None:
                return encode_text(tokenizer, self.text, self.closed)
            check_messages(self.turns or ())
            return encode_turns(tokenizer, list(self.turns or ()), self.tools, self.chat_template_kwargs)


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, conversation: Any, answer_column: str | None = None
) -> list[int]:
    """
    Token ids of one conversation in any of the forms above.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): with a chat template, unless all is text.
        conversation: messages, a text, a row of a table, or a [`Conversation`].
        answer_column (`str`, *optional*): the column with the answer, where it is neither `completion` nor `response`
            (`chosen`, `rejected`). Such a column may hold the whole conversation.

    Raises:
        RowError: a `ValueError` of one line: the form is unknown, roles are out of order, an answer is empty, there is
            no chat template, or it cannot write the conversation.
    """
    return read_conversation(conversation, answer_column).encode(tokenizer)


def read_conversation(
    conversation: Any, answer_column: str | None = None, prompt_column: str | None = None
) -> Conversation:
    """
    The conversation in any of the forms above.

    Args:
        conversation: messages, a text, a row of a table, or a [`Conversation`], which is returned as it is.
        answer_column, prompt_column (`str`, *optional*): columns with other names than usual.

    Raises:
        RowError: the form is unknown, or something that looks like the question would not be read.
    """
    if isinstance(conversation, Conversation):
        return conversation
    with telling_rows():
        if isinstance(conversation, str):
            return Conversation(text=conversation)
        if isinstance(conversation, (list, tuple)):
            return Conversation(turns=tuple(read_messages(conversation)))
        if not isinstance(conversation, Mapping):
            kind = type(conversation).__name__
            raise RowError(f"a conversation must be messages, a text or a row of a table, got {kind}.")
        if prompt_column is None and not _is_one_side(conversation, answer_column):
            conversation = read_row(conversation)
        if answer_column is not None and conversation.get(UNDECIDED) is not None:
            raise RowError(f"it prefers no answer: {conversation[UNDECIDED]}. Leave the row out.")
        if answer_column is None:
            whole = _read_whole(conversation)
            if whole is not None:
                return whole
            answer_column = next((c for c in ANSWER_COLUMNS if conversation.get(c) is not None), None)
            if answer_column is None:
                raise _no_conversation(conversation)
        return read_answer(conversation, answer_column, conversation.get(answer_column), prompt_column)


def _is_one_side(row: Mapping[str, Any], column: str | None) -> bool:
    """Whether it is a single side of a pair, which a caller has taken out of its row, and which is of no format."""
    return column is not None and column in row and not {"chosen", "rejected"} <= row.keys()


def read_answer(
    row: Mapping[str, Any], column: str, answer: Any, prompt_column: str | None = None, read: Sequence[str] = ()
) -> Conversation:
    """
    The conversation of one answer of a row.

    Args:
        row (`dict`): with the question, and maybe `tools`, `chat_template_kwargs` and a system turn.
        column (`str`): where the answer stands.
        answer (`str` or messages): the answer, or the whole conversation.
        prompt_column (`str`, *optional*): where the question stands. Default: see [`find_question`].
        read (`tuple[str]`): further columns that hold answers, and so no question.
    """
    with telling_rows():
        answer = _read_answer(column, answer)
        question = find_question(row, prompt_column)
        used = (column, *read, *ANSWER_COLUMNS, *AS_TEXT, *(question.columns if question else ()))
        if isinstance(answer, str):
            conversation = _answer_of_text(row, column, answer, question, used)
        elif answer[0].get("role") in _WHOLE and not _continues(question):
            conversation = _whole_answer(row, column, answer, question)
        elif question is None:
            raise _no_question(row, column, used)
        else:
            turns = question.turns
            conversation = Conversation(
                turns=(*turns, *answer), prompt_length=len(turns), **read_template_columns(row)
            )
        if prompt_column is not None:
            check_unread(row, used, _all_text(conversation))
        return conversation


def limit_length(ids: list[int], max_length: int | None, truncation: str) -> list[int] | None:
    """`ids`, cut to `max_length` on the side named by `truncation`; None to drop them. "error" raises."""
    if max_length is None or len(ids) <= max_length:
        return ids
    if truncation == "left":
        return ids[-max_length:]
    if truncation == "right":
        return ids[:max_length]
    if truncation == "drop":
        return None
    raise RowError(
        f"the conversation has {len(ids)} tokens, more than max_length={max_length}. Raise the limit, or say what to "
        'do: `truncation="left"` (keeps the end), `truncation="right"` (keeps the beginning) or, in training, '
        '`truncation="drop"`.'
    )


def check_truncation(truncation: str) -> str:
    if truncation not in TRUNCATIONS:
        raise ValueError(f"`truncation` must be one of {', '.join(TRUNCATIONS)}, got {truncation!r}.")
    return truncation


def digest(told: Any) -> str:
    """Of anything that JSON can hold; of functions among tools, of their names."""
    content = json.dumps(told, sort_keys=True, default=str)  # escapes also what UTF-8 cannot hold
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _read_whole(row: Mapping[str, Any]) -> Conversation | None:
    """The conversation of a row that holds it in one column."""
    if row.get("input_ids") is not None:
        ids = row["input_ids"]
        return Conversation(ids=tuple(ids.tolist() if hasattr(ids, "tolist") else ids))
    if row.get("messages") is not None:
        value = messages_from_json(row["messages"])
        value = value.tolist() if hasattr(value, "tolist") else value
        if not isinstance(value, (list, tuple)):
            raise RowError(f"`messages` must be messages, got {type(value).__name__}.", column="messages")
        turns = read_messages(value)
        _check_same_answer(row, turns)
        return Conversation(turns=tuple(turns), **read_template_columns(row))
    if row.get("text") is not None:
        if not isinstance(row["text"], str):
            raise RowError(f"`text` must be text, got {type(row['text']).__name__}.", column="text")
        return Conversation(text=row["text"])
    return None


def _check_same_answer(row: Mapping[str, Any], turns: Messages):
    """A row whose `messages` end otherwise than its answer column says has two readings, of which none is safe."""
    if not turns or turns[-1].get("role") != "assistant":
        return
    said = str(turns[-1].get("content") or "").strip()
    for column in ANSWER_COLUMNS:
        answer = row.get(column)
        if isinstance(answer, str) and answer.strip() not in ("", said):
            raise RowError(
                f"`messages` ends with another answer than `{column}` holds; leave one of them out.", column=column
            )


def _no_conversation(row: Mapping[str, Any]) -> RowError:
    names = sorted(map(str, row))
    return RowError(
        f"the row has the columns {names}; expected `messages`, `text`, `input_ids`, or `prompt` with `completion` or "
        "`response` (and these not null)."
    )


def _read_answer(column: str, answer: Any) -> str | Messages:
    if column in ("chosen", "rejected"):
        answer = messages_from_json(answer)
    if hasattr(answer, "tolist"):
        answer = answer.tolist()
    if answer is None or (isinstance(answer, str) and not answer.strip()) or answer == [] or answer == ():
        shown = "response" if column in _LISTS else column  # as one of a list is called where it is written
        raise RowError(f"`{shown}` is empty. {FILL_IN}", column=column)
    if isinstance(answer, Mapping) and "role" in answer:
        answer = [answer]  # a single turn, as TRL's GRPO and some data sets write it
    if not isinstance(answer, (str, list, tuple)):
        raise RowError(f"`{column}` must be text or messages, got {type(answer).__name__}.", column=column)
    return answer if isinstance(answer, str) else read_messages(answer)


def _answer_of_text(
    row: Mapping[str, Any], column: str, answer: str, question: Question | None, used: Sequence[str]
) -> Conversation:
    said = row.get("answer_column") if column == "response" else None  # in a file of scores, where it came from
    as_text = (said or column) in AS_TEXT
    if question is None:
        if not as_text:
            raise _no_question(row, column, used)
        if column == "completion" or "prompt" in row:  # in `chosen` and `rejected` the question may stand too
            raise _no_question(row, column, used)
        return Conversation(text=answer, closed=True)
    if as_text and isinstance(question.value, str) and not question.chat:
        if not question.value.strip() and column in ("chosen", "rejected"):
            raise RowError(f"`prompt` is empty. {FILL_IN}", column="prompt")
        if read_template_columns(row).get("tools"):
            raise RowError("`tools` beside a prompt of plain text: no chat template writes them. Write messages.")
        return Conversation(text=question.value + answer, closed=True, prompt_length=len(question.value))
    turns = question.turns
    said_by = {"role": "assistant", "content": answer}
    return Conversation(turns=(*turns, said_by), prompt_length=len(turns), **read_template_columns(row))


def _whole_answer(row: Mapping[str, Any], column: str, whole: Messages, question: Question | None) -> Conversation:
    """A whole conversation in the answer's place: the prompt stands in it already, and is not said twice."""
    check_messages(whole)
    if question is not None and question.value:
        said = split_turns(question.value) if isinstance(question.value, str) else question.value
        before = _spoken(whole[:-1])
        asked = _spoken(said)
        begun = [turn for turn in before if turn[0] not in ("system", "developer")]
        starts = (before[: len(asked)], begun[: len(asked)], before[-len(asked) :])
        if asked not in starts:
            raise RowError(
                f"`{column}` holds a whole conversation, which begins otherwise than the prompt says. Leave the "
                "prompt out, or only the last turn in each answer.",
                column=column,
            )
    turns = with_system(whole, question.system) if question else whole
    last = max((number for number, turn in enumerate(turns[:-1]) if turn.get("role") == "user"), default=0)
    return Conversation(turns=tuple(turns), prompt_length=last + 1, **read_template_columns(row))


def _spoken(turns: Sequence[Mapping[str, Any]]) -> list[tuple[Any, str]]:
    return [(turn.get("role"), str(turn.get("content") or "").strip()) for turn in turns]


def _continues(question: Question | None) -> bool:
    """Whether a user's turn may follow: the prompt ends with an answer."""
    return (
        question is not None
        and not isinstance(question.value, str)
        and bool(question.value)
        and (question.value[-1].get("role") == "assistant")
    )


def _no_question(row: Mapping[str, Any], column: str, used: Sequence[str]) -> RowError:
    try:
        check_unread(row, used, "")
    except RowError as error:
        return error
    state = "is null" if "prompt" in row else "is missing"
    return RowError(f"`prompt` {state} beside `{column}`.", column="prompt")


def _all_text(conversation: Conversation) -> str:
    if conversation.text is not None:
        return conversation.text
    return "\n".join(str(turn.get("content") or "") for turn in conversation.turns or ())
