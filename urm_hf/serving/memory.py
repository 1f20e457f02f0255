"""Memory of a server that runs for long: what others would keep is bounded, what was freed is given back."""

import ctypes
import sys
from functools import lru_cache
from typing import Any

from transformers import PreTrainedTokenizerBase

SECONDS_BETWEEN = 5.0  # giving back takes up to 20 ms, and what is given back has to be asked for again
WORDS = 2048  # that a tokenizer remembers in each thread: enough for most words of a text


def bound_words(tokenizer: PreTrainedTokenizerBase):
    """
    Bounds how many words a tokenizer remembers how to cut.

    The tokenizers library keeps 10,000 of them in each thread that tokenises, with 32 bytes for each token. Where
    words are words, that is little. But a tokenizer that does not split at spaces takes what stands between two
    special tokens for one, up to 256 bytes of it: up to 80 MB a thread, of which hardly anything comes twice.

    Args:
        tokenizer (`PreTrainedTokenizerBase`): that of the server; what it gives does not change.
    """
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    resize = getattr(model, "_resize_cache", None)  # of BPE and Unigram; others remember nothing
    if resize is not None:
        resize(WORDS)


def trim_memory():
    """
    Has glibc give back what it keeps of freed memory; elsewhere nothing happens.

    Batches differ in size, and each leaves holes that the next does not fit in: without this a server's memory goes up
    and down by a third, and up in the long run.
    """
    trim = _find_trim()
    if trim is not None:
        trim(0)


@lru_cache
def _find_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):  # another C library
        return None
