"""
Several answers to a prompt with ranks or scores (datasets of huggingface.co). `score` of a candidate says how good it
is, higher is better.

| format | rows |
|---|---|
| nectar | berkeley-nest/Nectar: seven `answers` with `rank`, 1 is the best |
| mix-instruct | llm-blender/mix-instruct, on which PairRM was trained: `candidates` with `scores` |
| pairrm-dpo | snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset: the best and the worst |
| pairrm-candidates | the same rows, if it is named: all of them, with the reward model's scores |
| distilabel | distilabel.argilla.io, task UltraFeedback: `generations` and `ratings`, one for each |

Confirmed in public loaders and cards, but for the fields of mix-instruct's candidates (`text`, `scores`) from memory.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from urm_hf.data.formats.format import Format, Row, replace_columns
from urm_hf.data.formats.trl import is_whole_pair, read_pair
from urm_hf.data.formats.turns import build_prompt, join_instruction, read_question, split_human_assistant
from urm_hf.data.formats.values import decode_list, is_list_of, is_messages, is_text, require, require_number

HUB = "hf.co/datasets/"
ALL_RESPONSES, ALL_SCORES = "all_generated_responses", "all_rm_scores"


def read_nectar(row: Row) -> dict[str, Any]:
    """Candidates with their `rank` and, as `score`, its negative."""
    candidates = []
    for number, answer in enumerate(require(row, "answers", list)):
        where = f"`answers`[{number}]"
        if not isinstance(answer, Mapping) or not isinstance(answer.get("answer"), str):
            raise ValueError(f"{where} must be an object with an `answer` that is text, got {answer!r:.60}.")
        own = {name: value for name, value in answer.items() if name != "answer"}
        candidates.append({"response": answer["answer"], **own, "score": -_number_of(answer, "rank", where)})
    prompt = split_human_assistant(require(row, "prompt", str), "prompt")
    return replace_columns(row, ("prompt", "answers"), {"prompt": prompt, "candidates": candidates})


def read_mix_instruct(row: Row) -> dict[str, Any]:
    """
    Candidates with each of their `scores` as a field. None of these is the measure of the others, so that no `score`
    says which is better.
    """
    candidates = []
    for number, candidate in enumerate(decode_list(row["candidates"])):
        if not isinstance(candidate.get("text"), str):
            raise ValueError(f"`candidates`[{number}] has no `text`.")
        scores = candidate.get("scores") if isinstance(candidate.get("scores"), Mapping) else {}
        own = {name: value for name, value in candidate.items() if name not in ("text", "scores")}
        candidates.append({"response": candidate["text"], **own, **(scores or {})})
    columns = ("instruction", "input", "candidates")
    return replace_columns(row, columns, {"prompt": build_prompt(join_instruction(row)), "candidates": candidates})


def read_pairrm_candidates(row: Row) -> dict[str, Any]:
    prompt = row["prompt"] if is_messages(row["prompt"]) else build_prompt(read_question(row, "prompt"))
    candidates = _score_answers(row, ALL_RESPONSES, ALL_SCORES, "score")
    columns = ("prompt", "chosen", "rejected", ALL_RESPONSES, ALL_SCORES)
    return replace_columns(row, columns, {"prompt": prompt, "candidates": candidates})


def read_distilabel(row: Row, question: str, answers: str, ratings: str) -> dict[str, Any]:
    """Candidates with `rating`, null where the judge gave none, and the same as `score` if all have one."""
    candidates = _score_answers(row, answers, ratings, "rating")
    if all(candidate["rating"] is not None for candidate in candidates):
        candidates = [{**candidate, "score": candidate["rating"]} for candidate in candidates]
    prompt = (
        row[question]
        if is_messages(row[question])
        else build_prompt(read_question(row, question), row.get("system_prompt"))
    )
    columns = (question, "system_prompt", answers, ratings)
    return replace_columns(row, columns, {"prompt": prompt, "candidates": candidates})


def _score_answers(row: Row, answers: str, scores: str, name: str) -> list[dict[str, Any]]:
    """Candidates from a list of answers and a list of as many numbers or nulls."""
    texts, values = decode_list(require(row, answers)), decode_list(require(row, scores))
    if not isinstance(texts, Sequence) or not isinstance(values, Sequence) or len(texts) != len(values):
        raise ValueError(f"`{answers}` and `{scores}` must be lists of one length, an answer and its number each.")
    numbers: list[float | None] = []
    for number, value in enumerate(values):
        where = f"`{scores}`"
        numbers.append(None if value is None else _number_of({f"[{number}]": value}, f"[{number}]", where))
    return [{"response": text, name: value} for text, value in zip(texts, numbers, strict=True)]


def _number_of(values: Mapping[str, Any], name: str, where: str) -> float:
    try:
        return require_number(values, name)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _are_answers(row: Row, answers: str, ratings: str) -> bool:
    return is_list_of(row[answers], (str, list)) and isinstance(decode_list(row[ratings]), (list, tuple))


def _distilabel(name: str, question: str, answers: str, ratings: str = "ratings") -> Format:
    return Format(
        name,
        "distilabel.argilla.io, task UltraFeedback",
        (question, answers, ratings),
        partial(_are_answers, answers=answers, ratings=ratings),
        partial(read_distilabel, question=question, answers=answers, ratings=ratings),
        ("system_prompt",),
    )


FORMATS = (
    Format(
        "nectar",
        HUB + "berkeley-nest/Nectar",
        ("prompt", "answers"),
        lambda row: is_text(row["prompt"]) and is_list_of(row["answers"], Mapping),
        read_nectar,
    ),
    Format(
        "mix-instruct",
        HUB + "llm-blender/mix-instruct",
        ("instruction", "candidates"),
        lambda row: is_list_of(row["candidates"], Mapping),
        read_mix_instruct,
        ("input",),
    ),
    Format(
        "pairrm-dpo",
        HUB + "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset",
        ("prompt", "chosen", "rejected", ALL_RESPONSES, ALL_SCORES),
        is_whole_pair,
        read_pair,
    ),
    Format(
        "pairrm-candidates",
        HUB + "snorkelai/Snorkel-Mistral-PairRM-DPO-Dataset",
        ("prompt", ALL_RESPONSES, ALL_SCORES),
        lambda row: "chosen" not in row,
        read_pairrm_candidates,
        ("chosen", "rejected"),
    ),
    _distilabel("distilabel", "instruction", "generations"),
    _distilabel("distilabel-responses", "instruction", "responses"),
    _distilabel("distilabel-prompt", "prompt", "generations"),
    _distilabel("distilabel-prompt-responses", "prompt", "responses"),
)
