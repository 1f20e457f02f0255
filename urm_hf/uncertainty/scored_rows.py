"""
Rows that `urm score` wrote, put together as pairs again where they came of pairs.

A pair `chosen`, `rejected` becomes two rows that follow each other, `answer_column` saying which is which.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from urm_hf.data.errors import RowError
from urm_hf.data.tables import read_jsonl
from urm_hf.scores import RewardScore

SIDES = ("chosen", "rejected")
OF_AN_ANSWER = {"response", "answer_column", "answer_index", "kept", *RewardScore.__dataclass_fields__}


@dataclass(frozen=True)
class ScoredPair:
    """
    Two scored answers to one prompt.

    Args:
        chosen (`dict`): the row of the preferred answer, with its score.
        rejected (`dict`): that of the other one.
    """

    chosen: Mapping[str, Any]
    rejected: Mapping[str, Any]

    @property
    def correct(self) -> bool:
        """Whether the chosen answer has the higher reward; a tie is wrong."""
        return self.chosen["reward"] > self.rejected["reward"]

    @property
    def prompt(self) -> str:
        """What pairs of one prompt have in common."""
        return prompt_key(self.chosen)

    def row(self) -> dict[str, Any]:
        """The row that was scored: `chosen` and `rejected` in one, without their scores."""
        rest = {name: value for name, value in self.chosen.items() if name not in OF_AN_ANSWER}
        return rest | {"chosen": self.chosen["response"], "rejected": self.rejected["response"]}


def is_side(row: Mapping[str, Any]) -> bool:
    """Whether a scored row is one side of a pair."""
    return row.get("answer_column") in SIDES


def prompt_key(row: Mapping[str, Any]) -> str:
    """What rows of one prompt have in common."""
    return json.dumps(row.get("prompt"), sort_keys=True, default=str)


def read_scored(name: str) -> list[dict[str, Any]]:
    """
    The rows of a file that `urm score` wrote.

    Raises:
        RowError: a row has no reward.
        ValueError: not a file of JSON lines, or an empty one.
    """
    if not name.lower().endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"{name} must be .jsonl or .jsonl.gz: write it with `urm score ... --out scored.jsonl`.")
    rows = list(read_jsonl(name))
    if not rows:
        raise ValueError(f"{name} holds no rows.")
    for number, row in enumerate(rows):
        if not isinstance(row.get("reward"), (int, float)):
            raise RowError(
                f"{name}, row {number}, has no `reward`. Score the file first (`urm score MODEL --data {name} --out "
                "scored.jsonl`), and give this command what that writes.",
                file=name,
                row=number,
            )
    return rows


def join_pairs(rows: Sequence[Mapping[str, Any]], name: str) -> list[ScoredPair]:
    """
    The pairs of a file in which all rows are sides of one.

    Args:
        rows (`list[dict]`): as `urm score` wrote them.
        name (`str`): of their file, for errors.

    Raises:
        RowError: a side stands alone, or has neighbours of another prompt.
    """
    pairs = []
    for number in range(0, len(rows), 2):
        sides = rows[number : number + 2]
        rests = [{key: value for key, value in row.items() if key not in OF_AN_ANSWER} for row in sides]
        if tuple(row.get("answer_column") for row in sides) != SIDES or rests[0] != rests[1]:
            raise RowError(
                f"{name}, rows {number} and {number + 1}, are not the `chosen` and `rejected` answer to one prompt. "
                "Filter a file as `urm score` wrote it, with all its rows in their order.",
                file=name,
                row=number,
            )
        pairs.append(ScoredPair(*sides))
    return pairs
