"""Which of two or more answers is better: read from the votes, ids and ratings of a row, never assumed."""

from collections.abc import Mapping, Sequence
from typing import Any

from urm_hf.data.formats.format import UNDECIDED, Row, find_candidates, replace_columns
from urm_hf.data.formats.values import decode_list, is_list_of, require, require_number


def choose(
    row: Row,
    prompt: Any,
    answers: Sequence[str],
    better: int | None,
    read: Sequence[str],
    why: str,
) -> dict[str, Any]:
    """
    A pair from the two answers in two columns, or both as candidates that are undecided.

    Args:
        answers (`(str, str)`): the columns of the two answers.
        better (`int`, *optional*): 0 or 1; None for a tie.
        read (`Sequence[str]`): columns that the pair replaces.
        why (`str`): for a tie, what says so: "`winner` is 'tie'".
    """
    if better is None:
        candidates = [{"response": require(row, name), "name": name} for name in answers]
        return replace_columns(row, read, {"prompt": prompt, "candidates": candidates, UNDECIDED: why})
    chosen, rejected = answers[better], answers[1 - better]
    return replace_columns(
        row, read, {"prompt": prompt, "chosen": require(row, chosen), "rejected": require(row, rejected)}
    )


def choose_by_strength(row: Row, column: str) -> int | None:
    """0 if a strength of preference is negative (the first answer), 1 if positive, None if it is zero."""
    strength = require_number(row, column)
    if strength == 0:  # no preference: never read as one for the first answer
        return None
    return int(strength > 0)


def check_ratings(row: Row, pair: dict[str, Any], columns: tuple[str, str]) -> dict[str, Any]:
    """
    A pair whose sides were made from ratings: undecided if these are equal.

    Args:
        columns (`(str, str)`): with the rating of the chosen and of the rejected answer; null is no rating.

    Raises:
        ValueError: the rejected answer has the higher one.
    """
    if any(row.get(column) is None for column in columns):
        return pair
    chosen, rejected = (require_number(row, column) for column in columns)
    if chosen < rejected:
        raise ValueError(
            f"`{columns[0]}` is {chosen:g} and `{columns[1]}` {rejected:g}: the rejected answer is rated higher. "
            "Correct the row, or leave these columns out with `ignore_columns`."
        )
    if chosen > rejected:
        return pair
    candidates = [{"response": pair[side], "name": side} for side in ("chosen", "rejected")]
    new = {"prompt": pair["prompt"], "candidates": candidates}
    new[UNDECIDED] = f"`{columns[0]}` and `{columns[1]}` are both {chosen:g}"
    return replace_columns(pair, ("prompt", "chosen", "rejected"), new)


def rank_pairs(row: Row) -> list[dict[str, Any]]:
    """
    The pairs in a canonical row: itself, or each two candidates of different `score`, the higher one chosen.

    An undecided row, and candidates that all have one score, give none.

    Raises:
        ValueError: it holds a single answer, or candidates that have no `score`.
    """
    candidates = find_candidates(row)
    if candidates is None:
        if row.get("chosen") is None or row.get("rejected") is None:
            raise ValueError(f"it holds no two answers to compare; the row has {', '.join(row)}.")
        return [dict(row)]
    if row.get(UNDECIDED) is not None:
        return []
    scores = [_score_of(candidate) for candidate in candidates]
    rest = {name: value for name, value in row.items() if name != "candidates"}
    # best first, and stable: candidates of one score stay in their order, and make no pair with each other
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    return [
        {**rest, "chosen": candidates[high]["response"], "rejected": candidates[low]["response"]}
        for place, high in enumerate(order)
        for low in order[place + 1 :]
        if scores[high] > scores[low]
    ]


def list_candidates(row: Row) -> dict[str, Any]:
    """A canonical row of right and wrong answers as one of candidates, with `score` 1 or 0; others as they are."""
    sides = [row.get(side) for side in ("chosen", "rejected")]
    if not all(is_list_of(side, str) for side in sides):
        return dict(row)
    candidates = [
        {"response": text, "score": 1 - worse} for worse, side in enumerate(sides) for text in decode_list(side)
    ]
    rest = {name: value for name, value in row.items() if name not in ("chosen", "rejected")}
    return {**rest, "candidates": candidates}


def split_candidates(row: Row) -> list[dict[str, Any]]:
    """Each candidate of a canonical row as a row of its own, with its fields; a row without candidates is one."""
    candidates = find_candidates(row)
    if candidates is None:
        return [dict(row)]
    rest = {name: value for name, value in row.items() if name != "candidates"}
    rows = []
    for candidate in candidates:
        own = dict(candidate) if isinstance(candidate, Mapping) else {"response": candidate}
        both = sorted(rest.keys() & own.keys())
        if both:
            raise ValueError(f"the columns {', '.join(both)} are of the row and of its candidates; rename them.")
        rows.append({**rest, **own})
    return rows


def _score_of(candidate: Any) -> float:
    score = candidate.get("score") if isinstance(candidate, Mapping) else None
    if isinstance(score, bool) or not isinstance(score, (int, float)):
        raise ValueError("its candidates have no `score` each, so that it is not known which is better.")
    return score
