"""
Does a measure of uncertainty tell out-of-distribution conversations from known ones, and better than trivial means?

Out of distribution is the positive class throughout.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from urm_hf.statistics.auroc import compute_auroc
from urm_hf.statistics.bootstrap import compute_percentiles, count_at_once, draw_samples, rows_by_group
from urm_hf.uncertainty.detectors import Detector, fpr_at_95
from urm_hf.uncertainty.measures import available, compute_uncertainty

Sides = tuple[list[Any], list[Any]]
Pair = tuple[np.ndarray, np.ndarray]
SIDES = ("in_distribution", "out")


@dataclass(frozen=True)
class OODReport:
    """
    What `ood_report` found.

    Args:
        rows (`list[Detector]`): one for each measure and each trivial statistic.
        n (`tuple[int, int]`): known and unknown conversations.
        n_groups (`tuple[int, int]`): groups of them that were resampled.
        confidence (`float`): of the intervals.
        values (`dict[str, tuple[np.ndarray, np.ndarray]]`): by detector: its values on known and on unknown
            conversations; higher = taken for unknown.
    """

    rows: list[Detector]
    n: tuple[int, int]
    n_groups: tuple[int, int]
    confidence: float
    values: dict[str, Pair] = field(repr=False)

    @property
    def best_trivial(self) -> Detector:
        """The trivial detector with the highest AUROC, which measures have to beat."""
        return max((row for row in self.rows if row.trivial), key=lambda row: row.auroc)

    def table(self) -> str:
        """Markdown: AUROC and FPR@95 with intervals, and whether a measure beats the best trivial detector."""
        pairs = zip(self.n, self.n_groups, strict=True)
        units = [f"{n}" if groups == n else f"{n} ({groups} groups)" for n, groups in pairs]
        lines = [
            f"In distribution: {units[0]} conversations; out: {units[1]}. OOD is positive; {self.confidence:.0%} "
            f"bootstrap intervals. Best trivial detector: {self.best_trivial.name}.",
            "",
            "| detector | AUROC | FPR@95 | AUROC less best trivial | beats it |",
            "|---|---|---|---|---|",
        ]
        for row in self.rows:
            gain = "" if row.trivial else _format_interval(row.gain, row.gain_interval, "+")
            verdict = "trivial"
            if not row.trivial:
                verdict = "yes" if row.beats_trivial else "no"
            lines.append(
                f"| {row.name} | {_format_interval(row.auroc, row.auroc_interval)} "
                f"| {_format_interval(row.fpr95, row.fpr95_interval)} | {gain} | {verdict} |"
            )
        return "\n".join(lines)

    __str__ = table

    def plot(self, path: Path | str) -> Path:
        """
        Histograms of every detector on both sets, and ROC curves, as an image. Needs `urm-hf[report]`.

        Args:
            path (`str` or `Path`): of the image; its folder is made.

        Returns:
            The path.
        """
        from urm_hf.uncertainty.ood_plot import plot_detectors  # only when needed: matplotlib is an extra

        return plot_detectors(self.rows, self.values, self.best_trivial, Path(path))


def ood_report(
    in_distribution: Sequence[Any],
    out: Sequence[Any],
    *,
    measures: Sequence[str] | None = None,
    extra: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    texts: tuple[Sequence[str], Sequence[str]] | None = None,
    groups: tuple[Sequence[Hashable], Sequence[Hashable]] | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> OODReport:
    """
    How well each measure of uncertainty tells unknown from known conversations, beside detectors that know nothing.

    The trivial detectors are the length in tokens, the reward itself and, with `texts`, the share of characters that
    are not letters and the share of words that are distinct. Each is taken in the best of three directions: higher,
    lower, or farther from the median of the known conversations. That choice is made in hindsight and favours them;
    a measure is taken only in its own direction. What does not beat them may have learnt length, not knowledge.

    Args:
        in_distribution (`list[RewardScore]` or `list[dict]`):
            Scores of N_in known conversations, or rows that `urm score` wrote.
        out (`list[RewardScore]` or `list[dict]`):
            Scores of N_out unknown ones.
        measures (`list[str]`, *optional*):
            Keys of `urm_hf.uncertainty.MEASURES`. By default all that the scores give.
        extra (`dict[str, tuple[ArrayLike, ArrayLike]]`, *optional*):
            Further measures by name: their values on known and on unknown conversations; higher = less sure.
        texts (`tuple[list[str], list[str]]`, *optional*):
            The answers, or whole conversations, of both sets.
        groups (`tuple[list, list]`, *optional*):
            The prompt of each conversation, of both sets; then prompts are resampled, not rows.
        confidence (`float`, *optional*, defaults to `0.95`):
            Of the percentile intervals. Where a detector separates the sets entirely, its interval has no width: the
            number of conversations is then all that qualifies it.
        n_resamples (`int`, *optional*, defaults to `2000`):
            Samples of the bootstrap, which resamples both sets independently.
        seed (`int`, *optional*, defaults to `0`):
            Of the bootstrap.

    Returns:
        [`OODReport`]: print it, or `plot` it.

    Raises:
        ValueError: fewer than two conversations or groups, a measure that the scores do not give, a list of the wrong
            length, values that are not finite.
    """
    sides = (list(in_distribution), list(out))
    members = [_group_rows(len(side), groups[i] if groups else None, SIDES[i]) for i, side in enumerate(sides)]
    trivial = _compute_trivial(sides, texts)
    values = _compute_measures(sides, measures, extra or {}) | trivial
    _check_sizes(values, sides)
    known = np.stack([pair[0] for pair in values.values()])  # (D, N_in) of D detectors
    unknown = np.stack([pair[1] for pair in values.values()])  # (D, N_out)
    is_trivial = np.array([name in trivial for name in values])
    rows = _assess(list(values), is_trivial, known, unknown, members, (confidence, n_resamples, seed))
    return OODReport(rows, (known.shape[1], unknown.shape[1]), (len(members[0]), len(members[1])), confidence, values)


def _check_sizes(values: Mapping[str, Pair], sides: Sides):
    for name, pair in values.items():
        if list(map(len, pair)) != list(map(len, sides)):
            sizes = f"{len(pair[0])} and {len(pair[1])}"
            raise ValueError(f"{name} has {sizes} values for {len(sides[0])} and {len(sides[1])} conversations.")


def _compute_measures(sides: Sides, measures: Sequence[str] | None, extra: Mapping[str, Any]) -> dict[str, Pair]:
    """The measures' values on both sides."""
    # aleatoric is the same number as attribute_variance
    given = [name for name in available(sides[0]) if name in available(sides[1]) and name != "aleatoric"]
    values: dict[str, Pair] = {}
    for name in given if measures is None else measures:
        values[name] = (compute_uncertainty(sides[0], name), compute_uncertainty(sides[1], name))
    for name, (known, unknown) in extra.items():
        values[name] = (_read_numbers(name, known), _read_numbers(name, unknown))
    if not values:
        raise ValueError("Both sets must hold uncertainties of one kind; scores of a scalar reward model hold none.")
    return values


def _assess(
    names: list[str],
    trivial: np.ndarray,
    known: np.ndarray,
    unknown: np.ndarray,
    members: list[list[np.ndarray]],
    settings: tuple[float, int, int],
) -> list[Detector]:
    """Rows of the report from values (D, N_in) and (D, N_out) of D detectors; `members` holds each group's rows."""
    # Chosen once, on all rows, not anew in every sample: the gain is over one detector that has a name.
    best = int(np.argmax(np.where(trivial, compute_auroc(known, unknown), -np.inf)))

    def measure(groups_in: np.ndarray, groups_out: np.ndarray) -> np.ndarray:
        """(3, D) AUROC, FPR and gain of each detector."""
        rows_in = np.concatenate([members[0][group] for group in groups_in])
        rows_out = np.concatenate([members[1][group] for group in groups_out])
        area = compute_auroc(known[:, rows_in], unknown[:, rows_out])
        return np.stack([area, fpr_at_95(known[:, rows_in], unknown[:, rows_out]), area - area[best]])

    # The two sets are two strata of one bootstrap: each keeps its size in every sample, as its size was chosen and not
    # observed. That is what scipy's two-sample bootstrap draws, number by number, without a second one beside ours.
    confidence, n_resamples, seed = settings
    n_in, n_out = map(len, members)
    strata = [np.arange(n_in), np.arange(n_out)]
    draws = []
    for block in draw_samples(strata, n_resamples, seed, count_at_once(n_in + n_out)):
        draws += [measure(drawn[:n_in], drawn[n_in:]) for drawn in block]
    point = measure(*strata)  # (3, D)
    samples = np.stack(draws)  # (samples, 3, D)
    detectors = []
    for number, name in enumerate(names):
        area, fpr, gain = point[:, number].tolist()
        area_ends, fpr_ends, gain_ends = (
            compute_percentiles(samples[:, metric, number], confidence) for metric in range(3)
        )
        is_trivial = bool(trivial[number])
        detectors.append(Detector(name, is_trivial, area, area_ends, fpr, fpr_ends, gain, gain_ends))
    return detectors


def _compute_trivial(sides: Sides, texts: tuple[Sequence[str], Sequence[str]] | None) -> dict[str, Pair]:
    """Numbers of both sides that need no knowledge, each in its best direction."""
    statistics: dict[str, Pair] = {}
    for name, column in (("length", "n_tokens"), ("reward", "reward")):
        statistics[name] = _read_column(sides[0], column), _read_column(sides[1], column)
    if texts is not None:
        for name, compute_share in (("non-letters", _share_non_letters), ("distinct words", _share_distinct_words)):
            statistics[name] = _compute_shares(texts[0], compute_share), _compute_shares(texts[1], compute_share)
    values = {}
    for name, (known, unknown) in statistics.items():
        direction, pair = _choose_direction(known, unknown)
        values[f"{name} ({direction})"] = pair
    return values


def _compute_shares(texts: Sequence[str], compute_share: Callable[[str], float]) -> np.ndarray:
    return np.array([compute_share(text) for text in texts])


def _read_column(rows: list[Any], column: str) -> np.ndarray:
    return _read_numbers(column, [row.get(column) for row in rows])


def _choose_direction(known: np.ndarray, unknown: np.ndarray) -> tuple[str, Pair]:
    """The direction in which a statistic tells the sets apart best: hindsight that favors what is to be beaten."""
    centre = np.median(known)
    directions = {
        "higher": (known, unknown),
        "lower": (-known, -unknown),
        "far from usual": (abs(known - centre), abs(unknown - centre)),
    }
    return max(directions.items(), key=lambda item: compute_auroc(*item[1]))


def _share_non_letters(text: str) -> float:
    characters = "".join(text.split())
    return sum(not character.isalpha() for character in characters) / max(len(characters), 1)


def _share_distinct_words(text: str) -> float:
    words = text.split()
    return len(set(words)) / max(len(words), 1)


def _read_numbers(name: str, values: ArrayLike) -> np.ndarray:
    array = np.array(values, dtype=np.float64)  # None becomes nan
    unsound = np.flatnonzero(~np.isfinite(array))
    if len(unsound):
        raise ValueError(f"{name} is missing or not finite in rows {unsound[:8].tolist()}.")
    return array


def _group_rows(n: int, groups: Sequence[Hashable] | None, part: str) -> list[np.ndarray]:
    """The rows of each group; without groups, each row is one."""
    if groups is not None and len(groups) != n:
        raise ValueError(f"`groups` needs an entry for each of the {n} conversations of `{part}`, got {len(groups)}.")
    rows = rows_by_group(range(n) if groups is None else groups)
    if len(rows) < 2:
        raise ValueError(f"`{part}` needs at least two conversations (or groups) to show any spread, got {len(rows)}.")
    return rows


def _format_interval(value: float, interval: tuple[float, float], sign: str = "") -> str:
    return f"{value:{sign}.3f} [{interval[0]:{sign}.3f}, {interval[1]:{sign}.3f}]"
