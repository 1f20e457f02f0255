"""Memory that was freed, given back to the system."""

import ctypes
import sys
from functools import lru_cache
from typing import Any

SECONDS_BETWEEN = 5.0  # giving back takes up to 20 ms, and what is given back has to be asked for again


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
