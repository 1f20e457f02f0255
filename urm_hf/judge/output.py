"""From the records of requests to what is written: the columns beside a row, and counts of all."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urm_hf.judge.replies import Unparseable, read_preferred
from urm_hf.judge.summary import Judged

ORDERS = ("a_first", "b_first")
PARTS = ("preferred", "problem", "replies")
WRITTEN = ("verdict", "consistent", *(f"{part}_{order}" for order in ORDERS for part in PARTS))


@dataclass(frozen=True)
class Told:
    """
    What a request told.

    Args:
        preferred (`str` or `None`): the better answer, "a" or "b".
        problem (`str` or `None`): why there is none, "failed: ..." or "unparseable: ...".
        replies (`list[str]`): all that the judge said, of which the last counts.
    """

    preferred: str | None
    problem: str | None
    replies: list[str]


def read_verdict(reply: dict[str, Any], names: tuple[str, str]) -> tuple[int | None, str | None]:
    """Which answer a reply ranks first, 0 or 1 in the order in which they were shown; or why it does not tell."""
    if reply["finish"] == "length":
        return None, "it was cut at max_tokens"
    try:
        return read_preferred(reply["content"], names), None
    except Unparseable as error:
        return None, str(error)


def summary_path(out: Path) -> Path:
    """The summary beside an output."""
    return out.with_suffix(".summary.json")


def read_record(record: dict[str, Any], names: tuple[str, str]) -> Told:
    """What the record of a request says, where the answers were shown under these names."""
    replies = [reply["content"] for reply in record["replies"]]
    if record["failed"] is not None:
        return Told(None, f"failed: {record['failed']}", replies)
    place, problem = read_verdict(record["replies"][-1], names)
    if place is None:
        return Told(None, f"unparseable: {problem}", replies)
    return Told("ab"[place ^ record["order"]], None, replies)  # in order 1 the first place is that of b


def build_columns(judged: Judged, told: Sequence[Told]) -> dict[str, Any]:
    """What is written beside a row."""
    parts = [getattr(request, part) for request in told for part in PARTS]
    return dict(zip(WRITTEN, [judged.verdict, judged.consistent, *parts], strict=True))


def summarize_requests(records: Sequence[dict[str, Any]], told: Sequence[Told]) -> dict[str, Any]:
    """Who answered, what came of the requests, and what they cost."""
    replies = [reply for record in records for reply in record["replies"]]
    problems = Counter(request.problem.partition(":")[0] for request in told if request.problem)
    faulty = sum((Counter(record["faults"]) for record in records), Counter())
    return {
        "answered_by": sorted({reply["model"] for reply in replies if reply["model"]}),
        "requests": len(records),
        "unparseable": problems["unparseable"],
        "failed": problems["failed"],
        "faulty_attempts": dict(sorted(faulty.items())),
        "prompt_tokens": sum(reply["prompt_tokens"] for reply in replies),
        "completion_tokens": sum(reply["completion_tokens"] for reply in replies),
    }
