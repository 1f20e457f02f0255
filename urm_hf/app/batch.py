"""The tab for files: scores of all rows as a table and as files to download."""

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urm_hf.app.familiar import FamiliarSet
from urm_hf.app.inputs import list_conversations, read_rows, write_text
from urm_hf.data.errors import RowError
from urm_hf.data.outputs import json_lines
from urm_hf.scores import RewardScore
from urm_hf.scoring.scorer import NonFiniteScores, RewardScorer
from urm_hf.uncertainty.measures import reward_interval

HEADINGS = ["row", "answer", "text", "reward", "from", "to", "unfamiliar", "error"]
SHOWN = 80  # characters of an answer in the table


@dataclass
class BatchRow:
    """
    A conversation of a file with what came of it.

    Args:
        number (`int`): of its row in the file, from 0.
        columns (`dict`): of the file, to be written beside the score.
        text (`str`): the answer.
        score ([`RewardScore`], *optional*): None where there is an `error`.
        error (`str`, *optional*): why it has no score.
        unfamiliar (`float`, *optional*): the share of familiar conversations that are surer.
    """

    number: int
    columns: dict[str, Any]
    text: str
    score: RewardScore | None = None
    error: str | None = None
    unfamiliar: float | None = None


def score_file(scorer: RewardScorer, path: str, limit: int, familiar: FamiliarSet | None = None) -> list[BatchRow]:
    """
    Scores the conversations in the first rows of a file, in any form of docs/data.md.

    Args:
        scorer ([`RewardScorer`]): the model.
        path (`str`): the file.
        limit (`int`): the most rows that are read.
        familiar ([`FamiliarSet`], *optional*): what `unfamiliar` is told by.

    Raises:
        ValueError: the file is damaged or holds no rows. What is wrong with a conversation is told in its place.
    """
    rows, encoded = [], []
    for number, columns, conversation in list_conversations(read_rows(path, limit)):
        if isinstance(conversation, str):
            rows.append(BatchRow(number, columns, "", error=conversation))
            continue
        row = BatchRow(number, columns, write_text(conversation.answer))
        rows.append(row)
        try:
            encoded.append((row, scorer.encode([conversation])[0][0]))
        except RowError as error:
            row.error = str(error).removeprefix("row 0: ")
    _add_scores(scorer, encoded)
    scored = [row for row in rows if row.score is not None]
    if familiar is not None and scored:
        shares = familiar.compute_share_below([row.score for row in scored if row.score is not None])
        for row, share in zip(scored, shares, strict=True):
            row.unfamiliar = float(share)
    return rows


def _add_scores(scorer: RewardScorer, encoded: list[tuple[BatchRow, list[int]]]):
    try:
        scores = scorer.score_ids([ids for _, ids in encoded])
    except NonFiniteScores as error:
        for place in error.indices:
            encoded[place][0].error = "its reward is not finite."
        encoded = [entry for entry in encoded if entry[0].error is None]
        scores = scorer.score_ids([ids for _, ids in encoded])
    for (row, _), score in zip(encoded, scores, strict=True):
        row.score = score


def build_table(rows: Sequence[BatchRow]) -> list[list[Any]]:
    """A line under `HEADINGS` for each conversation: numbers to three digits, texts to their beginnings."""
    table = []
    for row in rows:
        reward, low, high = "", "", ""
        if row.score is not None:
            reward = f"{row.score['reward']:.3f}"
            if row.score.get("reward_std") is not None:
                low, high = (f"{end:.3f}" for end in reward_interval(row.score["reward"], row.score["reward_std"]))
        text = row.text if len(row.text) <= SHOWN else row.text[: SHOWN - 1] + "…"
        share = "" if row.unfamiliar is None else f"{row.unfamiliar:.0%}"
        answer = row.columns.get("answer_column", "")
        table.append([row.number, answer, text, reward, low, high, share, row.error or ""])
    return table


def write_files(rows: Sequence[BatchRow]) -> list[str]:
    """The scores as CSV, of numbers and texts only, and as JSON lines with everything: paths in a new folder."""
    folder = Path(tempfile.mkdtemp(prefix="urm-app-"))
    whole = []
    for row in rows:
        line = {**row.columns, "row": row.number, **(row.score or {})}
        line |= {"error": row.error} if row.error else {}
        whole.append(line | ({} if row.unfamiliar is None else {"unfamiliar": row.unfamiliar}))
    (folder / "scored.jsonl").write_bytes(json_lines(whole))
    flat = [_flatten(line) | {"answer": row.text} for row, line in zip(rows, whole, strict=True)]
    columns = list(dict.fromkeys(name for line in flat for name in line))
    with open(folder / "scored.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(flat)
    return [str(folder / "scored.csv"), str(folder / "scored.jsonl")]


def _flatten(line: dict[str, Any]) -> dict[str, Any]:
    """What a table can hold: numbers and texts, and those of attributes under names of their own."""
    flat = {name: value for name, value in line.items() if not isinstance(value, (dict, list))}
    for field, called in (("attribute_means", "mean"), ("attribute_stds", "std")):
        for attribute, value in (line.get(field) or {}).items():
            flat[f"{called} of {attribute}"] = value
    return flat
