"""Progress bars are for terminals: in a log they are unfinished lines between the others."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# read by huggingface_hub and transformers, and by datasets, when they are imported
SWITCHES = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")


@contextmanager
def hide_bars_in_logs() -> Iterator[None]:
    """The libraries' own bars are off while standard error is no terminal, unless the environment asks for them."""
    absent = [] if sys.stderr.isatty() else [name for name in SWITCHES if name not in os.environ]
    os.environ.update(dict.fromkeys(absent, "1"))
    try:
        yield
    finally:
        for name in absent:
            os.environ.pop(name, None)
