"""
Keeping what a reward model is sure of (section 4.2): by a threshold, a share to keep, or a promised error.

A conversation or pair is kept where its uncertainty is at most the threshold; ties share one fate.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from urm_hf.uncertainty import measure

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
REDUCTIONS = {"either": np.maximum, "both": np.minimum}


@dataclass(frozen=True)
class Filtered:
    """
    Args:
        kept (`(N,)`, bool): whether each row is kept.
        threshold: largest uncertainty that is kept.
    """

    kept: np.ndarray
    threshold: float

    @property
    def indices(self) -> np.ndarray:
        """Rows that are kept, in their order."""
        return np.flatnonzero(self.kept)

    @property
    def n_kept(self) -> int:
        return int(self.kept.sum())

    @property
    def n_dropped(self) -> int:
        return len(self.kept) - self.n_kept

    def select(self, rows: Sequence[Any]) -> list[Any]:
        """The kept ones of N rows."""
        return [row for row, kept in zip(rows, self.kept, strict=True) if kept]

    def __str__(self) -> str:
        return f"{self.n_kept} of {len(self.kept)} kept, {self.n_dropped} above {self.threshold:.4g} dropped"


@dataclass(frozen=True)
class Candidate:
    """A threshold that was tested: of the pairs it keeps, how many were wrong, and how many may be."""

    share: float
    threshold: float
    n_kept: int
    n_errors: int
    upper_bound: float

    @property
    def error(self) -> float:
        return self.n_errors / self.n_kept if self.n_kept else math.nan


@dataclass(frozen=True)
class FittedThreshold:
    """
    What `fit_threshold` found.

    Args:
        threshold: None if no threshold can keep the promise; `reason` then says why.
        chosen: the candidate with this threshold: its share, kept pairs, errors and upper bound.
        candidates: all that were tested. Their upper bounds hold together with the given confidence, so that another
            one may be chosen from them afterwards.
        n: independent pairs that were used.
    """

    target_error: float
    confidence: float
    n: int
    chosen: Candidate | None = None
    reason: str = ""
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def threshold(self) -> float | None:
        return self.chosen.threshold if self.chosen else None

    def __str__(self) -> str:
        promise = f"error of at most {self.target_error:.3g} with confidence {self.confidence:.3g}, {self.n} pairs"
        lines = [f"{promise}: {self.reason or f'threshold {self.threshold:.4g}'}"]
        if self.candidates:
            lines += ["| share | threshold | kept | wrong | error | upper bound |", "|---|---|---|---|---|---|"]
        for row in self.candidates:
            mark = " (chosen)" if row is self.chosen else ""
            lines.append(
                f"| {row.share:.0%}{mark} | {row.threshold:.4g} | {row.n_kept} | {row.n_errors} | {row.error:.3f} "
                f"| {row.upper_bound:.3f} |"
            )
        return "\n".join(lines)


def filter_values(
    values: ArrayLike, *, threshold: float | FittedThreshold | None = None, keep: float | None = None
) -> Filtered:
    """
    Keeps the rows whose uncertainty is low.

    Args:
        values (`(N,)`): uncertainties; higher = less sure.
        threshold: keeps values up to it; a number, or what `fit_threshold` returned.
        keep: the share to keep, in (0, 1]: sets the threshold at the value of rank ceil(keep N). Values that tie with
            it are kept as well, so that more may be kept than asked for.

    Raises:
        ValueError: a value is not finite; not exactly one of `threshold` and `keep`; a fitted threshold that is None.
    """
    values = _check_values(values)
    if (threshold is None) == (keep is None):
        raise ValueError(f"Give either `threshold` or `keep`, got threshold={threshold} and keep={keep}.")
    if isinstance(threshold, FittedThreshold):
        if threshold.threshold is None:
            raise ValueError(f"No threshold was found that keeps the promise: {threshold.reason}")
        threshold = threshold.threshold
    elif threshold is None:
        if not 0 < keep <= 1:  # type: ignore[operator]
            raise ValueError(f"`keep` is a share and must lie in (0, 1], got {keep}.")
        if not len(values):
            raise ValueError("`keep` needs at least one value.")
        rank = math.ceil(round(keep * len(values), 6))  # type: ignore[operator]  # 0.7 * 10 is above 7
        threshold = float(np.sort(values)[rank - 1])
    if math.isnan(threshold):
        raise ValueError("`threshold` is nan.")
    return Filtered(values <= threshold, float(threshold))


def filter_scores(
    scores: Any, by: str, *, threshold: float | FittedThreshold | None = None, keep: float | None = None
) -> Filtered:
    """Keeps conversations by a measure of `urm_hf.uncertainty.MEASURES`; arguments as in [`filter_values`]."""
    return filter_values(measure(scores, by), threshold=threshold, keep=keep)


def filter_pairs(
    chosen: Any,
    rejected: Any,
    by: str,
    *,
    threshold: float | FittedThreshold | None = None,
    keep: float | None = None,
    above: str = "either",
) -> Filtered:
    """Keeps pairs by a measure of both sides; `above` as in [`pair_values`], the rest as in [`filter_values`]."""
    values = pair_values(measure(chosen, by), measure(rejected, by), above)
    return filter_values(values, threshold=threshold, keep=keep)


def pair_values(chosen: ArrayLike, rejected: ArrayLike, above: str = "either") -> np.ndarray:
    """
    One uncertainty for each pair, (N,).

    Args:
        chosen, rejected (`(N,)`): the uncertainty of each side.
        above: "either": the larger, so that a pair is dropped when either side is above the threshold (as in the
            paper's Fig. 6c); "both": the smaller, so that it is dropped only when both are.
    """
    if above not in REDUCTIONS:
        raise ValueError(f'`above` must be "either" or "both", got {above!r}.')
    chosen, rejected = _check_values(chosen), _check_values(rejected)
    if len(chosen) != len(rejected):
        raise ValueError(f"Pairs have two sides, got {len(chosen)} chosen and {len(rejected)} rejected values.")
    return REDUCTIONS[above](chosen, rejected)


def fit_threshold(
    values: ArrayLike,
    correct: ArrayLike,
    *,
    target_error: float = 0.1,
    confidence: float = 0.95,
    shares: Sequence[float] = SHARES,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> FittedThreshold:
    """
    The threshold that keeps most, with a promise: among pairs it keeps, at most `target_error` are wrong.

    With probability `confidence` over the labelled pairs, P(wrong | uncertainty <= threshold) <= target_error for
    pairs drawn as they were; nothing is assumed of measure or model. Among a few new pairs the share varies around it.

    A candidate for each of K fixed shares: all below the value of rank k. Given that value, the pairs below it are an
    independent sample of all such pairs: their errors are binomial, and the Clopper-Pearson bound is exact. At
    confidence 1 - (1 - confidence) / K each, all bounds hold together (Bonferroni), and the largest share within the
    target may be taken. Selection with guaranteed risk: Geifman & El-Yaniv (2017), arXiv:1705.08500; as multiple
    testing: Angelopoulos et al. (2021), arXiv:2110.01052.

    Args:
        values (`(N,)`): uncertainty of each labelled pair, as from [`pair_values`].
        correct (`(N,)`, bool): whether the model prefers the chosen answer.
        shares: shares of the pairs to try to keep, in (0, 1], fixed before labels are looked at; fewer give tighter
            bounds. Those too small to pass without a single error are left out.
        groups (`(N,)`, *optional*): the prompt of each pair. Pairs of one prompt are not independent: one of each
            prompt is drawn (with `seed`) and used, and the promise is about such pairs.

    Raises:
        ValueError: lengths differ, a value is not finite, `correct` is not true or false, a share is not in (0, 1].
    """
    measured, wrong = _check_values(values), ~_check_correct(correct)
    _check_settings(target_error, confidence, shares)
    if len(measured) != len(wrong):
        raise ValueError(f"`values` and `correct` must be of one length, got {len(measured)} and {len(wrong)}.")
    if groups is not None:
        drawn = _one_of_each(groups, len(measured), seed)
        measured, wrong = measured[drawn], wrong[drawn]
    candidates = _candidates(measured, wrong, target_error, 1 - confidence, shares)
    chosen = max((c for c in candidates if c.upper_bound <= target_error), key=lambda c: c.share, default=None)
    n = len(measured)
    reason = "" if chosen else _why_none(candidates, n, target_error, 1 - confidence)
    return FittedThreshold(target_error, confidence, n, chosen, reason, candidates)


def _candidates(
    values: np.ndarray, wrong: np.ndarray, target: float, delta: float, shares: Sequence[float]
) -> list[Candidate]:
    """The thresholds of the shares that can pass, with bounds that hold together with probability 1 - delta."""
    n = len(values)
    order = np.argsort(values)
    values, errors = values[order], np.concatenate([[0], np.cumsum(wrong[order])])
    # pairs strictly below the value of the share's rank; without an error, m of them pass at level d where
    # (1 - target)^m <= d, which is known before any label is
    planned = {share: n if round(share * n) == n else max(round(share * n) - 1, 0) for share in sorted(set(shares))}
    while planned and (1 - target) ** min(planned.values()) > delta / len(planned):
        planned.pop(next(iter(planned)))
    candidates = []
    for share, count in planned.items():
        threshold, kept = math.inf, n
        if count < n:
            threshold = float(np.nextafter(values[count], -math.inf))
            kept = int(np.searchsorted(values, values[count]))  # fewer than planned where values tie
        bound = _upper_bound(int(errors[kept]), kept, delta / len(planned))
        candidates.append(Candidate(share, threshold, kept, int(errors[kept]), bound))
    return candidates


def _upper_bound(errors: int, n: int, delta: float) -> float:
    """Clopper-Pearson: exceeded by the error rate with probability at most delta."""
    return float(betaincinv(errors + 1, n - errors, 1 - delta)) if errors < n else 1.0


def _why_none(candidates: list[Candidate], n: int, target: float, delta: float) -> str:
    if not candidates:
        needed = math.ceil(math.log(delta) / math.log(1 - target))
        return f"{n} pairs are too few: even without an error, {needed} or more must be kept to show it."
    best = min(candidates, key=lambda candidate: candidate.upper_bound)
    return (
        f"no share passes; the nearest keeps {best.n_kept} pairs, {best.n_errors} of them wrong, which may mean an "
        f"error of up to {best.upper_bound:.3f}."
    )


def _one_of_each(groups: Sequence[Hashable], n: int, seed: int) -> np.ndarray:
    """One row of each group, drawn at random."""
    if len(groups) != n:
        raise ValueError(f"`groups` needs an entry for each of the {n} pairs, got {len(groups)}.")
    rows: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(members) for members in rows.values()], dtype=int)


def _check_values(values: ArrayLike) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"uncertainties must be of shape (N,), got {array.shape}.")
    unsound = np.flatnonzero(~np.isfinite(array))
    if len(unsound):
        raise ValueError(
            f"uncertainties are not finite in rows {unsound[:8].tolist()}: {array[unsound[:8]].tolist()}."
        )
    return array


def _check_correct(correct: ArrayLike) -> np.ndarray:
    array = np.asarray(correct)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise ValueError("`correct` must hold true or false (1 or 0) for each pair.")
    return array.astype(bool)


def _check_settings(target_error: float, confidence: float, shares: Sequence[float]):
    for name, value in (("target_error", target_error), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {value}.")
    if not len(shares) or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"`shares` must lie in (0, 1], got {shares}.")
