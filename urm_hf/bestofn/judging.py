"""
What an LLM judge thinks of the choices of best-of-n, as in the paper's Table 2: each against a reference answer.

The answer that is chosen of n is that of the first n candidates: they are independent draws, so that it is best-of-n
for every n, and the choices for 1, 2, 4, ... 64 share most of their answers. Each answer is judged once, in both
orders, whichever models chose it, and for however many n.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.bestofn.data import Candidates, read_text
from urm_hf.bestofn.results import Selection
from urm_hf.data.outputs import json_lines, write_whole
from urm_hf.data.tables import read_jsonl
from urm_hf.judge.job import JudgeJob

VALUES = {"win": 1.0, "tie": 0.5, "loss": 0.0, None: 0.5}  # of a choice, by the verdict on it


def choose_nested(rows: Sequence[Candidates], selection: Selection, sizes: Sequence[int]) -> np.ndarray:
    """
    Which candidate is chosen of the first n, of R prompts and S sizes, (R, S); of equal ones the first.

    Args:
        rows (`list[Candidates]`): R prompts.
        selection (`Selection`): what ranks their candidates.
        sizes (`list[int]`): S sizes n, each at most the smallest number of candidates.
    """
    chosen = []
    for keys in selection.keys:
        chosen.append([int(np.argmax(keys[:n])) for n in sizes])
    return np.array(chosen).reshape(len(rows), len(sizes))


@dataclass(frozen=True)
class Judgement:
    """
    Args:
        values (`dict[str, np.ndarray]`): of each selection, by name, what its choices are worth, (R, S): 1 for a win
            over the reference, 1/2 for a tie, 0.
        summary (`dict`): of the judge's job.
        empty (`int`): choices that say nothing, which lose unasked.
        unjudged (`int`): answers of which the judge told nothing; they count as ties.
    """

    values: dict[str, np.ndarray]
    summary: dict[str, Any]
    empty: int
    unjudged: int


def judge_choices(
    rows: Sequence[Candidates],
    references: Sequence[str],
    selections: Sequence[Selection],
    sizes: Sequence[int],
    folder: Path,
    make_job: Callable[[str, Path], JudgeJob],
    progress: bool = False,
) -> Judgement:
    """
    Asks the judge for every distinct answer that some selection chooses at some n.

    Args:
        rows (`list[Candidates]`): R prompts.
        references (`list[str]`): the answer to each that others are judged against.
        selections (`list[Selection]`): whose choices are judged; those of one name must be one.
        sizes (`list[int]`): S sizes n.
        folder (`Path`): where pairs, replies and verdicts are kept; the same choices are not judged again.
        make_job (`Callable`): of the file of pairs and the file of verdicts, the job that judges them.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.
    """
    chosen = {item.name: choose_nested(rows, item, sizes) for item in selections}
    asked: dict[tuple[int, str], dict[str, Any]] = {}
    empty = 0
    for number, row in enumerate(rows):
        for candidate in sorted({int(k) for choices in chosen.values() for k in choices[number]}):
            text = read_text(row.answers[candidate])
            if not text.strip():
                empty += 1
                continue
            pair = {"prompt": row.prompt, "response": text, "reference": references[number], "number": number}
            asked.setdefault((number, text), pair)
    if not asked:
        raise ValueError("every chosen answer is empty, so that there is nothing to judge.")
    content = json_lines(list(asked.values()))
    # other choices, of another model perhaps, are another job, and leave the replies to this one where they are
    own = folder / hashlib.blake2b(content, digest_size=6).hexdigest()
    own.mkdir(parents=True, exist_ok=True)
    pairs = own / "pairs.jsonl"
    if not pairs.is_file():
        write_whole(pairs, content)
    summary = make_job(str(pairs), own / "judged.jsonl").run(progress=progress)
    verdicts = {(row["number"], row["response"]): row["verdict"] for row in read_jsonl(own / "judged.jsonl")}
    values = {}
    for name, choices in chosen.items():
        values[name] = np.array(
            [_read_values(row, number, choices[number], verdicts) for number, row in enumerate(rows)]
        )
    return Judgement(values, summary, empty, sum(verdict is None for verdict in verdicts.values()))


def _read_values(
    row: Candidates, number: int, choices: Sequence[int], verdicts: Mapping[tuple[int, str], str | None]
) -> list[float]:
    texts = [read_text(row.answers[candidate]) for candidate in choices]
    return [VALUES[verdicts[number, text]] if text.strip() else 0.0 for text in texts]
