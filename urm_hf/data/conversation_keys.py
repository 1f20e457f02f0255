"""What a conversation is called in a file of scores, whichever of its forms it stands in there."""

from collections.abc import Mapping
from typing import Any

from urm_hf.data.content import plain_value
from urm_hf.data.conversations import Conversation, digest, read_conversation
from urm_hf.data.errors import RowError


def conversation_key(conversation: Any) -> str:
    """
    A digest of what is said in a conversation: turns with all that they hold, tools, and what else the template gets.

    It does not tell an answer that continues plain text from one in a chat template: within one set of data they mean
    the same. `Conversation.key` does.
    """
    try:
        read = read_conversation(conversation)
    except RowError:  # told where it is scored, with its place
        return digest(["unread", plain_value(conversation)])
    # plain text counts as the turns that it stands for, so that a file of scores fits data in either form
    if read.closed and read.prompt_length:
        said = [{"role": "user", "content": read.prompt}, {"role": "assistant", "content": read.answer}]
        return digest(["turns", said, None, {}])
    if read.closed:
        return digest(["turns", [{"role": "assistant", "content": read.text}], None, {}])
    return read.key


def key_of_prompt(conversation: Conversation) -> str:
    """What answers to one prompt share: its text, or a digest of its turns and tools; empty where it is unknown."""
    prompt = conversation.prompt
    if prompt is None or isinstance(prompt, str):
        return prompt or ""
    return digest([prompt, conversation.tools])


def is_plain(conversation: Any) -> bool:
    """
    Whether prompt and answer are plain text that is scored as one, without a chat template.

    Of a row of a file of scores too, where `answer_column` says what the answer was.
    """
    try:
        return read_conversation(conversation).closed
    except RowError:
        return False


def as_row(conversation: Any) -> dict[str, Any]:
    """The conversation as a row of a JSON-lines file that `urm score` reads."""
    try:
        return read_conversation(conversation).as_row()
    except RowError:  # told where it is scored, with its place
        return dict(conversation) if isinstance(conversation, Mapping) else {"messages": conversation}
