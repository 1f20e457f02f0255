"""From the columns of one row to conversations: what stands in a prompt and its answers, in any of TRL's forms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urm_hf.data.conversations import check_messages

Messages = list[dict[str, Any]]


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


def form_of(value: Any) -> str:
    """ "text", "messages" or "answers" (a list of texts); else the name of the type."""
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)) and value:
        if all(isinstance(part, Mapping) and "role" in part for part in value):
            return "messages"
        if all(isinstance(part, str) for part in value):
            return "answers"
    return type(value).__name__


def filled(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column; an UnusableRow if it is null or empty."""
    value = row.get(column)
    if value is None or (isinstance(value, (str, list, tuple)) and not value):
        raise UnusableRow(f"`{column}` is {'null' if value is None else 'empty'}", "Fill it in.")
    return value


def subset_of(row: Mapping[str, Any], column: str) -> str:
    if column not in row:
        raise ValueError(f"there is no column `{column}`; the row has {', '.join(row)}. It says what each row tests.")
    value = filled(row, column)
    if not isinstance(value, (str, int)):
        raise ValueError(f"`{column}` must be a name, got {described(value)}.")
    return str(value)


def answers_in(row: Mapping[str, Any], column: str) -> list[str]:
    """
    The texts in a column that holds several.

    Raises:
        ValueError: it holds something else. UnusableRow: one of them is null or empty.
    """
    value = filled(row, column)
    if not isinstance(value, (list, tuple)) or not all(isinstance(text, str | None) for text in value):
        raise ValueError(f"`{column}` must be a list of answers as text, got {described(value)}. Is `kind` right?")
    for number, text in enumerate(value):
        if text is None or not text.strip():
            raise UnusableRow(f"`{column}`[{number}] is {'null' if text is None else 'empty'}", "Fill it in.")
    return list(value)


def conversations_in(prompt: Any, answers: Mapping[str, Any], chat: bool) -> tuple[str, list[dict[str, Any]]]:
    """
    The key of a prompt, and a conversation with each of its answers.

    Args:
        prompt: text, messages, or None if every answer holds the whole conversation.
        answers: by where they stand, all text or all messages.
        chat: whether a prompt of plain text is a user's turn, as in RewardBench, or text that the answers continue
            without a chat template, as in TRL.

    Raises:
        ValueError: another form. UnusableRow: answers that are equal, or no conversation in the order of its roles.
    """
    forms = {where: form_of(answer) for where, answer in answers.items()}
    for where, form in forms.items():
        if form not in ("text", "messages"):
            raise ValueError(f"`{where}` must be text or messages, got {described(answers[where])}.")
    if len(set(forms.values())) > 1:
        raise ValueError(f"its answers have several forms: {', '.join(f'`{w}` is {f}' for w, f in forms.items())}.")
    values = list(answers.values())
    if prompt is not None and form_of(prompt) not in ("text", "messages"):
        raise ValueError(f"the prompt must be text or messages, got {described(prompt)}.")
    if form_of(values[0]) == "text":
        if prompt is None:
            return _common_text(values), [{"prompt": "", "completion": _nonempty(w, a)} for w, a in answers.items()]
    elif prompt is None or any(answer[0]["role"] not in ("assistant", "tool") for answer in values):
        prompt, values = _split(prompt, values)
    if chat and isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(prompt, str) and form_of(values[0]) == "messages":
        raise ValueError("the prompt is text, but its answers are messages; write the prompt as messages too.")
    conversations = [
        _checked(where, {"prompt": prompt, "completion": value}) for where, value in zip(answers, values, strict=True)
    ]
    return prompt if isinstance(prompt, str) else key_of(prompt), conversations


def key_of(messages: Messages) -> str:
    return json.dumps([[message["role"], message.get("content")] for message in messages], ensure_ascii=False)


def reject_equal(chosen: Sequence[Any], rejected: Sequence[Any]):
    """An UnusableRow if a chosen answer is a rejected one too."""
    equal = next((answer for answer in chosen if answer in rejected), None)
    if equal is not None:
        reason = "a chosen and a rejected answer are equal"
        raise UnusableRow(reason, f"No model can prefer one to the other, {equal!r:.80}: take the row out.")


def described(value: Any) -> str:
    """What a value is, for errors."""
    form = form_of(value)
    if form == "answers":
        return f"a list of {len(value)} texts"
    if form in ("text", "messages"):
        return form
    return f"{form} {value!r:.60}"


def _split(prompt: str | Messages | None, whole: Sequence[Messages]) -> tuple[Messages, list[Messages]]:
    """The turns that whole conversations share before their last one, and what follows in each."""
    shared = 0
    while all(len(turns) > shared + 1 and turns[shared] == whole[0][shared] for turns in whole):
        shared += 1
    if not shared:
        raise ValueError("its answers are whole conversations without a common first turn: of different prompts.")
    common = list(whole[0][:shared])
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    if turns and key_of(turns) not in (key_of(common[: len(turns)]), key_of(common[-len(turns) :])):
        raise ValueError(
            "its answers hold whole conversations, which begin otherwise than the prompt says. Leave the prompt out, "
            "or only the last turn in each answer."
        )
    return common, [list(messages[shared:]) for messages in whole]


def _common_text(texts: Sequence[str]) -> str:
    """What texts have in common at the beginning, up to the end of a line: the prompt, if they hold it at all."""
    length = next((i for i, letters in enumerate(zip(*texts, strict=False)) if len(set(letters)) > 1), None)
    common = min(texts, key=len) if length is None else texts[0][:length]
    return common[: common.rfind("\n") + 1] or common


def _nonempty(where: str, text: str) -> str:
    if not text.strip():
        raise UnusableRow(f"`{where}` is empty", "Fill it in.")
    return text


def _checked(where: str, conversation: dict[str, Any]) -> dict[str, Any]:
    prompt, answer = conversation["prompt"], conversation["completion"]
    if isinstance(answer, str):
        _nonempty(where, answer)
    if isinstance(prompt, list):
        turns = [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer
        try:
            check_messages([*prompt, *turns])
        except ValueError as error:
            raise UnusableRow(f"`{where}` is not a conversation", f"In its messages, {error}") from error
    return conversation
