"""What a run prints of its numbers: those that fit a line and are defined. All are in `trainer_state.json`."""

import math
from collections.abc import Mapping
from typing import Any

from transformers import PrinterCallback, ProgressCallback

TIMES = ("_runtime", "_per_second")
MOST_IN_A_LINE = 12  # numbers, beyond which those of single attributes are left out


def shorten_log(logs: Mapping[str, Any]) -> dict[str, Any]:
    """What is printed of a line of the log: nothing undefined, and of many numbers the averages alone."""
    defined = drop_undefined(logs)
    if len(defined) <= MOST_IN_A_LINE:
        return defined
    return {name: value for name, value in defined.items() if "/" not in name and not name.endswith(TIMES)}


def drop_undefined(logs: Mapping[str, Any]) -> dict[str, Any]:
    """Without NaN, as of a correlation with the spread of ratings where each row has one."""
    return {name: value for name, value in logs.items() if not (isinstance(value, float) and math.isnan(value))}


def print_short_lines(trainer: Any):
    """Has a trainer print the log so, below its progress bar or without one."""
    for given, short in ((PrinterCallback, ShortPrinter), (ProgressCallback, ShortProgress)):
        if trainer.pop_callback(given) is not None:
            trainer.add_callback(short)


class ShortPrinter(PrinterCallback):
    """Prints lines without a bar."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=shorten_log(logs or {}), **kwargs)


class ShortProgress(ProgressCallback):
    """Prints lines below a bar."""

    def on_log(self, args, state, control, logs=None, **kwargs):
        super().on_log(args, state, control, logs=shorten_log(logs or {}), **kwargs)
