"""Rows that a command leaves out: a file beside the folder that it writes, and how many there are and why."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MOST_NAMED = 5  # reasons in a line


def skipped_file(out: Path) -> Path:
    """The file of skipped rows, beside a folder, which must be new or empty."""
    beside = out if out.name.strip(".") else out.resolve()  # . and .. have no name that an ending could follow
    return beside.with_name(f"{beside.name}.skipped.jsonl")


def check_skipped_file(out: Path):
    """
    Args:
        out (`Path`): the folder that will be written.

    Raises:
        FileExistsError: there is such a file already, which may be of anybody, or the very data.
    """
    file = skipped_file(out)
    if os.path.lexists(file):
        raise FileExistsError(f"{file} exists, where skipped rows would go: move it away, or name another --out.")


def write_skipped(out: Path, skipped: Sequence[dict[str, Any]]):
    """The file of skipped rows, in the order of the data; none where there are none."""
    from urm_hf.data.outputs import json_lines, write_whole

    if skipped:
        write_whole(skipped_file(out), json_lines(sorted(skipped, key=lambda line: line["row"])))


def describe_skipped(out: Path, skipped: Sequence[dict[str, Any]], total: int) -> str:
    """
    How many rows were skipped, and why.

    Args:
        out (`Path`): the folder that was written.
        skipped (`list[dict]`): with `reason` each. total (`int`): rows, with these.
    """
    reasons = Counter(str(line["reason"]).rstrip(".") for line in skipped).most_common()
    told = [f"{count} because {reason}" for reason, count in reasons[:MOST_NAMED]]
    others = sum(count for _, count in reasons[MOST_NAMED:])
    told += [f"{others} for other reasons"] if others else []
    return f"{len(skipped)} of {total} rows SKIPPED (see {skipped_file(out)}): {'; '.join(told)}."
