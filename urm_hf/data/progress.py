"""Progress of long steps: a bar on a terminal, and in a log a line every half minute."""

import sys
from typing import Any

from tqdm import tqdm

EVERY = 30.0  # seconds between lines of a log; a step that is done sooner has none
LINE = "{desc}: {n_fmt} of {total_fmt} ({percentage:.0f} %) in {elapsed}, {remaining} left, {rate_fmt}{postfix}"


class ProgressBar(tqdm):
    """
    tqdm's bar, which on a stream that is no terminal would fill a log with unfinished lines.

    Args:
        args, kwargs: as of `tqdm`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        stream = kwargs.get("file") or sys.stderr
        self.in_log = not _redraws(stream)
        if self.in_log:
            # looked at with every update, as batches differ in size
            kwargs |= {"mininterval": EVERY, "delay": EVERY, "miniters": 1, "leave": True, "dynamic_ncols": False}
            if kwargs.get("total") is not None:
                kwargs["bar_format"] = LINE
        super().__init__(*args, **kwargs)

    @staticmethod
    def status_printer(file: Any) -> Any:
        """What writes a state of the bar: over the last one, or in a log below it."""
        if _redraws(file):
            return tqdm.status_printer(file)

        def print_line(text: str):
            if text.strip():
                file.write(f"{text.rstrip()}\n")
                file.flush()

        return print_line


def _redraws(stream: Any) -> bool:
    """Whether a line can be written over: on a terminal, and in a notebook, whose streams say that they are none."""
    if type(stream).__module__.startswith("ipykernel"):
        return True
    return hasattr(stream, "isatty") and stream.isatty()
