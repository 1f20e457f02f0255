"""Commands print foreign text: servers' errors, names in checkpoints and data. It must not steer terminals."""

import re
from typing import Any, TextIO

# all but line feed and tab: escape sequences begin with one of these, and so do changes of the writing direction
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters, and halves of surrogate pairs, as Python writes them: `\\x1b`."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class PrintableStream:
    """
    A stream of text that takes only what is printable.

    Args:
        stream (`TextIO`): where it goes.
    """

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(printable(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
