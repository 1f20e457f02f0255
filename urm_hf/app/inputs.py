"""What a visitor writes or uploads, as rows that the scorer reads, and a row of a file as what one might write."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversations import Conversation
from urm_hf.data.errors import RowError
from urm_hf.data.source import read_items, row_of

FILE_ENDINGS = [".jsonl", ".json", ".gz", ".parquet", ".csv", ".tsv"]  # what a browser offers; `.jsonl.gz` ends in .gz


def read_prompt(text: str) -> Any:
    """
    The prompt in a box: a list of messages where it is written as one in JSON, and else one turn of a user.

    Raises:
        ValueError: the box is empty.
    """
    if not text.strip():
        raise ValueError("Write a prompt first.")
    if text.lstrip().startswith("["):
        try:
            turns = json.loads(text)
        except ValueError:
            turns = None
        if isinstance(turns, list) and turns and all(isinstance(turn, dict) and "role" in turn for turn in turns):
            return turns
    return [{"role": "user", "content": text}]


def build_row(prompt: str, answer: str, name: str) -> dict[str, Any]:
    """
    The row of an answer in a box.

    Args:
        prompt (`str`): as of [`read_prompt`].
        answer (`str`): what the assistant says.
        name (`str`): of the answer, for the error.

    Raises:
        ValueError: the prompt or the answer is empty.
    """
    turns = read_prompt(prompt)
    if not answer.strip():
        raise ValueError(f"Write answer {name} first.")
    return {"prompt": turns, "response": answer}


def read_rows(path: str, limit: int) -> list[tuple[int, dict[str, Any]]]:
    """
    The first rows of a file, each with its number from 0.

    Raises:
        ValueError: the file holds none, or a row cannot be read; file and line are named.
    """
    rows = [(number, row_of(item, path)) for number, item in islice(enumerate(read_items(path)), limit)]
    if not rows:
        raise ValueError("The file holds no rows.")
    return rows


def list_conversations(rows: Iterable[tuple[int, dict[str, Any]]]) -> Iterator[tuple[int, dict, Conversation | str]]:
    """
    The conversations of numbered rows: number, the columns to write beside the score, and what is scored, or, of a row
    that cannot be read, what is wrong with it.
    """
    for number, row in rows:
        try:
            yield from ((number, written, conversation) for written, conversation in conversations_of(row, Columns()))
        except RowError as error:
            yield number, row, str(error)


def fill_boxes(path: str, number: int) -> tuple[str, str, str, bool]:
    """
    A row of a file as texts for the boxes: prompt, answer A, answer B (empty where the row has one answer), and
    whether the row is plain text, which the page makes a conversation of.

    Args:
        path (`str`): the file.
        number (`int`): of the row, from 0.

    Raises:
        ValueError: there is no such row, or it does not tell its prompt from its answer.
    """
    for _, row in [entry for entry in read_rows(path, number + 1) if entry[0] == number]:
        found = [conversation for _, conversation in conversations_of(row, Columns())]
        texts = [write_text(conversation.answer) for conversation in found[:2]]
        prompt = found[0].prompt
        if prompt is None:
            raise ValueError(f"Row {number} does not tell its prompt from its answer; see the forms of docs/data.md.")
        first, second = [*texts, ""][:2]
        return _write_prompt(prompt), first, second, isinstance(prompt, str)
    raise ValueError(f"There is no row {number}; the first is row 0.")


def _write_prompt(prompt: Any) -> str:
    one_turn = isinstance(prompt, list) and len(prompt) == 1 and prompt[0].get("role") == "user"
    if isinstance(prompt, str) or (one_turn and isinstance(prompt[0].get("content"), str)):
        return prompt if isinstance(prompt, str) else prompt[0]["content"]
    return json.dumps(prompt, ensure_ascii=False, indent=1)


def write_text(answer: Any) -> str:
    """An answer as one text, be it a text or turns."""
    if isinstance(answer, str):
        return answer
    return "\n\n".join(str(turn.get("content") or "") for turn in answer or [])
