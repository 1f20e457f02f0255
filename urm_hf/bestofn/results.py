"""What each way of choosing among candidates is worth, for n = 1, 2, 4, ...: the content of results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from urm_hf.bestofn.curve import expected_best, kl_bound, share_within, sizes_up_to
from urm_hf.bestofn.data import Candidates
from urm_hf.bestofn.rules import Rule, rank
from urm_hf.scores import RewardScore
from urm_hf.statistics.bootstrap import bootstrap_intervals, rows_by_group

LONGEST, RANDOM, ORACLE = "longest answer", "random", "oracle"


@dataclass(frozen=True)
class Selection:
    """
    One way of choosing, applied to R prompts.

    Args:
        label (`str`): by what is chosen.
        keys (`list[np.ndarray]`): for each prompt (N,), higher wins, equal ones tie.
        model (`str`, *optional*): None of a baseline.
        rule (`Rule`, *optional*): None of a baseline.
        eligible (`list[np.ndarray]`, *optional*): for each prompt (N,), bool: candidates that a filter has left; None
            without a filter.
        threshold (`float`, *optional*): of the filter.
    """

    label: str
    keys: list[np.ndarray]
    model: str | None = None
    rule: Rule | None = None
    eligible: list[np.ndarray] | None = None
    threshold: float | None = None

    @property
    def name(self) -> str:
        """Of the curve: model and label; of a baseline the label."""
        return self.label if self.model is None else f"{self.model}: {self.label}"


def build_baselines(rows: Sequence[Candidates]) -> list[Selection]:
    """By lot, by length in characters, and, where there is gold, by the gold itself."""
    baselines = [
        Selection(RANDOM, [np.zeros(len(row.answers)) for row in rows]),
        Selection(LONGEST, [row.lengths for row in rows]),
    ]
    golds = [row.gold for row in rows if row.gold is not None]
    return [*baselines, Selection(ORACLE, golds)] if len(golds) == len(rows) else baselines


def build_selection(
    rows: Sequence[Candidates], model: str, rule: Rule, scores: Sequence[RewardScore | None]
) -> Selection:
    """
    A model's choice.

    Args:
        rows (`list[Candidates]`): R prompts.
        model (`str`): its name.
        rule (`Rule`): by which it chooses.
        scores (`list[RewardScore | None]`): of all candidates, row after row; None of an empty answer.
    """
    ranking = rank(rule, scores)
    rule, ends = ranking.rule, np.cumsum([len(row.answers) for row in rows])[:-1]
    eligible = np.split(ranking.eligible, ends) if rule.name == "filtered" else None
    return Selection(rule.label, np.split(ranking.keys, ends), model, rule, eligible, ranking.threshold)


def align_scores(rows: Sequence[Candidates], scores: Sequence[RewardScore]) -> list[RewardScore | None]:
    """One for each candidate, row after row: of those that are not empty, in their order; None of the empty ones."""
    given = iter(scores)
    return [None if empty else next(given) for row in rows for empty in row.empty]


def build_chosen_rows(
    rows: Sequence[Candidates], selection: Selection, scores: Sequence[RewardScore | None]
) -> list[dict[str, Any]]:
    """
    The answer that is taken of all candidates, a row for each prompt, with its score.

    `tied` candidates share the first place, of which the first is taken; `fell_back`: the filter had left none.
    """
    chosen, start = [], 0
    for number, row in enumerate(rows):
        keys = selection.keys[number]
        best = int(np.argmax(keys))
        score = scores[start + best]
        left = selection.eligible is None or bool(selection.eligible[number].any())
        told = {
            "row": row.row,
            "id": row.id,
            "prompt": row.prompt,
            "response": row.answers[best],
            "model": selection.model,
            "rule": selection.label,
            "candidate": best,
            "candidates": len(keys),
            "tied": int((keys == keys[best]).sum()),
            "fell_back": not left,
        }
        if row.gold is not None:
            told["gold"] = float(row.gold[best])
        chosen.append(told | (dict(score.items()) if score is not None else {}))
        start += len(keys)
    return chosen


def compute_results(
    rows: Sequence[Candidates], selections: Sequence[Selection], samples: int, seed: int
) -> dict[str, Any]:
    """
    Curves and paired differences, with 95 % intervals over prompts: of rows with gold.

    Rows of one prompt are resampled together. n goes up to the smallest number of candidates, so that every prompt
    counts at every n; all candidates of a prompt are used at each.

    Args:
        rows (`list[Candidates]`): R prompts with gold.
        selections (`list[Selection]`): ways of choosing.
        samples (`int`): of the bootstrap; none leaves the intervals out.
        seed (`int`): of the bootstrap.

    Returns:
        `dict`: `n`, `kl`, `curves` and `comparisons` of results.json.
    """
    sizes = sizes_up_to(min(len(row.answers) for row in rows))
    gold = {item.name: _compute_expected_gold(item, rows, sizes) for item in selections}  # (R, S) each
    return summarize_values(rows, selections, gold, sizes, samples, seed)


def summarize_values(
    rows: Sequence[Candidates],
    selections: Sequence[Selection],
    gold: Mapping[str, np.ndarray],
    sizes: list[int],
    samples: int,
    seed: int,
) -> dict[str, Any]:
    """
    The same of choices whose worth is known already.

    Args:
        rows (`list[Candidates]`): R prompts.
        selections (`list[Selection]`): ways of choosing.
        gold (`Mapping[str, np.ndarray]`): of each, by name, what it chooses at S sizes is worth, (R, S).
        sizes (`list[int]`): S of them.
        samples (`int`): of the bootstrap; none leaves the intervals out.
        seed (`int`): of the bootstrap.
    """
    pairs = _select_pairs(selections)
    # One table of all curves and differences, so that each sample of prompts is drawn once for all of them: a paired
    # difference varies less than two curves do.
    columns: dict[str, np.ndarray] = {}
    for name, values_at in gold.items():
        columns |= {f"{name} {n}": values_at[:, k] for k, n in enumerate(sizes)}
    columns |= {f"{a} - {b}": gold[a][:, -1] - gold[b][:, -1] for a, b in pairs}
    table = np.stack(list(columns.values()), axis=1)  # (R, columns)

    def means(chosen: np.ndarray) -> dict[str, float]:
        return dict(zip(columns, table[chosen].mean(0).tolist(), strict=True))

    clusters = rows_by_group(row.key for row in rows)
    values = means(np.arange(len(rows)))
    intervals = bootstrap_intervals(means, clusters, samples, seed) if len(clusters) > 1 and samples else {}

    def bounds(name: str, side: int) -> list[float] | None:
        return [intervals[f"{name} {n}"][side] for n in sizes] if intervals else None

    curves, comparisons = [], []
    for item in selections:
        curve = _describe(item, rows, sizes)
        curve["gold"] = [values[f"{item.name} {n}"] for n in sizes]
        curve["low"], curve["high"] = bounds(item.name, 0), bounds(item.name, 1)
        curves.append(curve)
    for a, b in pairs:
        key = f"{a} - {b}"
        interval = list(intervals[key]) if intervals else None
        comparisons.append({"name": a, "against": b, "n": sizes[-1], "difference": values[key], "interval": interval})
    return {"n": sizes, "kl": kl_bound(sizes).tolist(), "curves": curves, "comparisons": comparisons}


def _compute_expected_gold(item: Selection, rows: Sequence[Candidates], sizes: list[int]) -> np.ndarray:
    """(R, S) what is chosen from n candidates is worth, for each prompt and size n."""
    expected = []
    for row, keys in zip(rows, item.keys, strict=True):
        expected.append(expected_best(np.asarray(row.gold), keys, sizes))
    return np.array(expected)


def _select_pairs(selections: Sequence[Selection]) -> list[tuple[str, str]]:
    """Every choice of a model against the baselines, its other rules against its reward, and rewards of two models."""
    of_models = [item for item in selections if item.model is not None]
    plain = {item.model: item for item in of_models if item.label == "reward"}
    pairs = list(product([item.name for item in of_models], (LONGEST, RANDOM)))
    pairs += [(i.name, plain[i.model].name) for i in of_models if i.model in plain and i is not plain[i.model]]
    return pairs + [(b.name, a.name) for a, b in combinations(plain.values(), 2)]


def _describe(item: Selection, rows: Sequence[Candidates], sizes: list[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": item.name, "model": item.model, "label": item.label, "rule": None}
    if item.rule is not None:
        found["rule"] = asdict(item.rule) | {"threshold": item.threshold}
    found["fallback"] = None
    if item.eligible is not None:  # share of the subsets in which the filter leaves none
        outside = [int((~eligible).sum()) for eligible in item.eligible]
        shares = [share_within(len(row.answers), sizes)[:, k] for row, k in zip(rows, outside, strict=True)]
        found["fallback"] = np.mean(shares, axis=0).tolist()
    return found
