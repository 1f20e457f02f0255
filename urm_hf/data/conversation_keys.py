"""What a conversation is called in a file of scores, whichever of its forms it stands in there."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from urm_hf.data.answers import AS_TEXT
from urm_hf.data.conversations import ANSWER_COLUMNS


def conversation_key(conversation: Any) -> str:
    """
    A digest of the turns of a conversation.

    It does not tell an answer in `completion` from one in `response`, which differ in the chat template only: within
    one set of data they mean the same.
    """
    content = json.dumps(_turns(conversation), ensure_ascii=False, sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def is_plain(conversation: Any) -> bool:
    """
    Whether prompt and answer are plain text that is scored as one, without a chat template.

    Of a row of a file of scores too, where `answer_column` says what the answer was.
    """
    if not isinstance(conversation, Mapping) or not isinstance(conversation.get("prompt"), str):
        return False
    column = conversation.get("answer_column") or next((c for c in ANSWER_COLUMNS if conversation.get(c)), None)
    answer = next((conversation[c] for c in ANSWER_COLUMNS if conversation.get(c) is not None), None)
    return isinstance(answer, str) and column in (*AS_TEXT, "completion")


def as_row(conversation: Any) -> dict[str, Any]:
    """The conversation as a row of a JSON-lines file that `urm score` reads."""
    if isinstance(conversation, str):
        return {"text": conversation}
    return dict(conversation) if isinstance(conversation, Mapping) else {"messages": list(conversation)}


def _turns(conversation: Any) -> list[list[Any]]:
    """Role and content of each turn."""
    if isinstance(conversation, Mapping):
        if conversation.get("input_ids") is not None:
            return [["ids", [int(token) for token in conversation["input_ids"]]]]
        for column in ("messages", "text"):
            if conversation.get(column) is not None:
                return _turns(conversation[column])
        answer = next((conversation[c] for c in ANSWER_COLUMNS if conversation.get(c) is not None), None)
        if answer is None:
            raise ValueError(f"the row has the columns {sorted(conversation)}, and no conversation among them.")
        return [*_side(conversation.get("prompt"), "user"), *_side(answer, "assistant")]
    return _side(conversation, "text")


def _side(value: Any, role: str) -> list[list[Any]]:
    if isinstance(value, str):
        return [[role, value]] if value else []
    return [[message["role"], message.get("content")] for message in value or []]
