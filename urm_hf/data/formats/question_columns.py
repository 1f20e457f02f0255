"""
The names under which data keep what an answer is for, so that no question is left unread without a word.

What an answer was made with, or compared to, is not among them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from urm_hf.data.formats.format import Row
from urm_hf.data.formats.trl import is_system_prompt
from urm_hf.data.formats.values import decode_list

SYSTEM_COLUMNS = ("system", "system_prompt", "system_message")
QUESTION_COLUMNS = (
    *("prompt", "question", "query", "instruction", "input", "problem", "user_prompt", "user", "user_input"),
    *("user_message", "request", "text_prompt", "prompt_text", "human", "inputs", "instructions", "utterance"),
    *("context", "contexts", "history", "chat_history", "conversation_history", "dialog_history", "dialogue_history"),
    *("previous_turns", "conversation", "conversations", "messages", "dialogue", "dialog", "post", "article"),
    *("text", "document", "documents", "passage", "passages", "image", "images", "functions", *SYSTEM_COLUMNS),
)
# beside answers that stand alone, a column whose name has one of these words is taken for their question,
QUESTION_WORDS = {
    *("prompt", "question", "query", "instruction", "input", "problem", "request", "user", "human", "message"),
    *("context", "history", "conversation", "dialogue", "dialog", "post", "article", "document", "passage"),
    *("turn", "system", "task", "goal", "title", "utterance", "premise", "stem"),
}
# but not if it ends in one of these, or has one of those
LABELS = {
    *("id", "ids", "hash", "uuid", "index", "idx", "number", "count", "length", "tokens", "language", "lang"),
    *("type", "category", "categories", "source", "name", "label", "model", "rating", "score", "date", "time", "url"),
}
ABOUT_ANSWERS = {
    *("chosen", "rejected", "answer", "response", "completion", "output", "model", "models", "source", "judge"),
    *(
        "reason",
        "reasoning",
        "rationale",
        "explanation",
        "feedback",
        "critique",
        "comment",
        "justification",
        "license",
    ),
}
SENTENCE = 3  # words; shorter texts are mostly labels
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def is_question(row: Row, column: Any) -> bool:
    """Whether a column has a name under which data keep a question, or a part of it."""
    name = str(column).lower()
    if name not in QUESTION_COLUMNS:
        return False
    return name not in SYSTEM_COLUMNS or is_system_prompt({**row, "system": row[column]})


def may_ask(row: Row, column: Any) -> bool:
    """
    Whether a column could be the question of answers that stand alone: by a word in its name, or as a sentence that
    is not said to be about the answers.
    """
    if is_question(row, column):
        return True
    words = [word.lower() for word in _WORD.findall(str(column))]
    if ABOUT_ANSWERS.intersection(words) or (words and words[-1] in LABELS):
        return False
    if any(word in QUESTION_WORDS or word.removesuffix("s") in QUESTION_WORDS for word in words):
        return True
    return isinstance(row[column], str) and len(row[column].split()) >= SENTENCE


def find_texts(value: Any) -> Iterator[str]:
    """All texts that are not blank in a value, however deep: but for the names of roles, and numbers."""
    value = decode_list(value)
    if isinstance(value, str):
        if value.strip():
            yield value.strip()
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name not in ("role", "from", "type"):
                yield from find_texts(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from find_texts(inner)
