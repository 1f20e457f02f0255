"""From the columns of one row to conversations: what stands in a prompt and its answers, in any of TRL's forms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from urm_hf.data.content import check_messages, is_messages
from urm_hf.data.conversation_keys import key_of_prompt
from urm_hf.data.conversations import Conversation, read_answer
from urm_hf.data.errors import RowError


@dataclass(frozen=True)
class PreferenceColumns:
    """The columns to read. Where `prompt` is absent, the answers hold it; where `subset` is absent, there is none."""

    prompt: str = "prompt"
    chosen: str = "chosen"
    rejected: str = "rejected"
    subset: str = "subset"


def find_first(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> Mapping[str, Any]:
    """The first row with answers, which tells the form of all."""
    answered = (row for row in rows if row.get(columns.chosen) and row.get(columns.rejected))
    return next(answered, rows[0])


class UnusableRow(ValueError):
    """A row that no model can be judged by. `reason`: what such rows are counted by when they are left out."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}. {remedy}")
        self.reason = reason


def find_form(value: Any) -> str:
    """ "text", "messages" or "answers" (a list of texts); else the name of the type."""
    if isinstance(value, str):
        return "text"
    if is_messages(value):
        return "messages"
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, str) for part in value):
        return "answers"
    return type(value).__name__


def read_filled(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column; an UnusableRow if it is null or empty."""
    value = row.get(column)
    if value is None or (isinstance(value, (str, list, tuple)) and not value):
        raise UnusableRow(f"`{column}` is {'null' if value is None else 'empty'}", "Fill it in.")
    return value


def read_subset(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(f"there is no column `{column}`; the row has {', '.join(row)}. It says what each row tests.")
    value = read_filled(row, column)
    if not isinstance(value, (str, int)):
        raise ValueError(f"`{column}` must be a name, got {describe_value(value)}.")
    return str(value)


def read_answers(row: Mapping[str, Any], column: str) -> list[str]:
    """
    The texts in a column that holds several.

    Raises:
        ValueError: it holds something else. UnusableRow: one of them is null or empty.
    """
    value = read_filled(row, column)
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str | None) for text in value):
        told = describe_value(value)
        raise ValueError(f"`{column}` must be a list of answers as text, got {told}. Is `kind` right?")
    for number, text in enumerate(value):
        if text is None or not text.strip():
            raise UnusableRow(f"`{column}`[{number}] is {'null' if text is None else 'empty'}", "Fill it in.")
    return list(value)


def read_conversations(
    row: Mapping[str, Any], answers: Mapping[str, Any], columns: PreferenceColumns, *, is_chat: bool
) -> tuple[str, list[Conversation]]:
    """
    The key of a row's prompt, and a conversation with each of its answers, as scoring and training read them.

    Args:
        row (`Mapping`): with the prompt, if the answers do not hold it, and what else goes to the chat template.
        answers (`Mapping`): by where they stand (`chosen`, `rejected[1]`), all text or all messages.
        columns (`PreferenceColumns`): the names of the columns.
        is_chat (`bool`): whether a prompt of plain text is a user's turn, as in RewardBench, or text that the answers
            continue without a chat template, as in TRL.

    Raises:
        ValueError: another form. UnusableRow: no conversation in the order of its roles, or content that cannot
            be read.
    """
    _check_forms(row, answers, columns)
    prompt = row.get(columns.prompt)
    if is_chat and isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    # under their usual names, as the reading of a row goes by them
    named = {columns.prompt, columns.chosen, columns.rejected}
    usual = {name: value for name, value in row.items() if name not in named}
    if columns.prompt in row:
        usual["prompt"] = prompt
    conversations = [_read_one(usual, where, answer, columns) for where, answer in answers.items()]
    if any(_is_whole(answer) for answer in answers.values()):
        conversations = _split(conversations)
    first = conversations[0]
    if first.text is not None and first.prompt_length is None:
        return _common_text([str(conversation.text) for conversation in conversations]), conversations
    return key_of_prompt(first), conversations


def reject_equal(chosen: Sequence[Conversation], rejected: Sequence[Conversation]):
    """An UnusableRow if a chosen answer is a rejected one too: tool calls, names and reasoning tell them apart."""
    keys = {conversation.key for conversation in rejected}
    equal = next((conversation for conversation in chosen if conversation.key in keys), None)
    if equal is not None:
        reason = "a chosen and a rejected answer are equal"
        raise UnusableRow(reason, f"No model can prefer one to the other, {_show(equal)!r:.80}: take the row out.")


def describe_value(value: Any) -> str:
    """What a value is, for errors."""
    form = find_form(value)
    if form == "answers":
        return f"a list of {len(value)} texts"
    if form in ("text", "messages"):
        return form
    return f"{form} {value!r:.60}"


def _check_forms(row: Mapping[str, Any], answers: Mapping[str, Any], columns: PreferenceColumns):
    """A ValueError unless the answers are all text or all messages, and the prompt is of a form that fits."""
    forms = {where: find_form(answer) for where, answer in answers.items()}
    for where, form in forms.items():
        if form not in ("text", "messages"):
            raise ValueError(f"`{where}` must be text or messages, got {describe_value(answers[where])}.")
    if len(set(forms.values())) > 1:
        told = ", ".join(f"`{where}` is {form}" for where, form in forms.items())
        raise ValueError(f"its answers have several forms: {told}.")
    if columns.prompt not in row:
        return
    prompt = read_filled(row, columns.prompt)
    if find_form(prompt) not in ("text", "messages"):
        raise ValueError(f"the prompt must be text or messages, got {describe_value(prompt)}.")
    of_messages = "messages" in forms.values() and not any(_is_whole(answer) for answer in answers.values())
    if isinstance(prompt, str) and of_messages:
        raise ValueError("the prompt is text, but its answers are messages; write the prompt as messages too.")


def _read_one(row: Mapping[str, Any], where: str, answer: Any, columns: PreferenceColumns) -> Conversation:
    """The conversation with one answer, checked; `where` it stands names the side."""
    side = "rejected" if where.startswith(columns.rejected) else "chosen"
    if isinstance(answer, str) and not answer.strip():
        raise UnusableRow(f"`{where}` is empty", "Fill it in.")
    try:
        conversation = read_answer(row, side, answer)
    except RowError as error:
        if "begins otherwise" in str(error):
            raise ValueError(
                "its answers hold whole conversations, which begin otherwise than the prompt says. Leave the prompt "
                "out, or only the last turn in each answer."
            ) from error
        raise UnusableRow(f"`{where}` cannot be read", f"{error}") from error
    if conversation.turns is not None:
        try:
            check_messages(conversation.turns)
        except ValueError as error:
            raise UnusableRow(f"`{where}` is not a conversation", f"In its messages, {error}") from error
    return conversation


def _is_whole(answer: Any) -> bool:
    """Whether an answer in messages begins with another's turn, and so holds its prompt."""
    return find_form(answer) == "messages" and answer[0]["role"] not in ("assistant", "tool")


def _split(whole: Sequence[Conversation]) -> list[Conversation]:
    """The same, each divided after the turns that all share before their last one."""
    turns = [conversation.turns or () for conversation in whole]
    shared = 0
    while all(len(own) > shared + 1 and own[shared] == turns[0][shared] for own in turns):
        shared += 1
    if not shared:
        raise ValueError("its answers are whole conversations without a common first turn: of different prompts.")
    return [replace(conversation, prompt_length=shared) for conversation in whole]


def _common_text(texts: Sequence[str]) -> str:
    """What texts have in common at the beginning, up to the end of a line: the prompt, if they hold it at all."""
    length = next((i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), None)
    common = min(texts, key=len) if length is None else texts[0][:length]
    return common[: common.rfind("\n") + 1] or common


def _show(conversation: Conversation) -> str:
    """The answer as text, for errors."""
    answer = conversation.answer
    if not isinstance(answer, list):
        return str(answer)
    texts = [str(turn.get("content") or turn.get("tool_calls") or "") for turn in answer]
    return "\n".join(texts)
