"""
A threshold of uncertainty below which at most a promised share of preferences is wrong, from labelled pairs.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv
from scipy.stats import hypergeom

from urm_hf.statistics.bootstrap import rows_by_group

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# of fixed-sequence testing, where more shares cost nothing but the first must pass: few pairs bound little
SEQUENCE = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
TESTING = ("bonferroni", "fixed_sequence")


@dataclass(frozen=True)
class Candidate:
    """
    A threshold that was tested: of the pairs it keeps, how many were wrong, and how many may be.

    Args:
        share (`float`): of the pairs that it was to keep.
        threshold (`float`): the largest uncertainty that it keeps; infinite where it keeps all.
        n_kept (`int`): pairs at or below it; fewer than the share where values tie.
        n_errors (`int`): of these, wrong ones.
        upper_bound (`float`): of the share that is wrong, among all such pairs or among the new ones.
    """

    share: float
    threshold: float
    n_kept: int
    n_errors: int
    upper_bound: float

    @property
    def error(self) -> float:
        """The share of kept pairs that were wrong; NaN if none was kept."""
        return self.n_errors / self.n_kept if self.n_kept else math.nan


@dataclass(frozen=True)
class FittedThreshold:
    """
    What `fit_threshold` found.

    Args:
        target_error (`float`): the promise: the largest share of kept pairs that may be wrong.
        confidence (`float`): the probability that it is kept.
        n (`int`): independent pairs that were used.
        chosen (`Candidate`, *optional*): the candidate that was taken: its share, kept pairs, errors and upper bound.
            None if no threshold can keep the promise.
        reason (`str`, *optional*): why there is none.
        candidates (`list[Candidate]`, *optional*): all that were tested. With Bonferroni's correction their upper
            bounds hold together with the given confidence, so that another one may be chosen from them afterwards. In
            a fixed sequence each bound holds by itself only, and the last candidate is the first that failed.
    """

    target_error: float
    confidence: float
    n: int
    chosen: Candidate | None = None
    reason: str = ""
    candidates: list[Candidate] = field(default_factory=list)

    @property
    def threshold(self) -> float | None:
        """The largest uncertainty to keep; None if no threshold can keep the promise."""
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


def fit_threshold(
    values: ArrayLike,
    correct: ArrayLike,
    *,
    target_error: float = 0.1,
    confidence: float = 0.95,
    shares: Sequence[float] | None = None,
    testing: str = "bonferroni",
    new_pairs: int | None = None,
    groups: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> FittedThreshold:
    """
    The threshold that keeps most, with a promise: among pairs it keeps, at most `target_error` are wrong.

    With probability `confidence` over the labelled pairs, P(wrong | uncertainty <= threshold) <= target_error for
    pairs drawn as they were; nothing is assumed of measure or model. Among a few new pairs the share varies around it:
    give their number, if the promise is to hold for them.

    A candidate for each of K fixed shares: all below the value of rank k. Given that value, the pairs below it are an
    independent sample of all such pairs: their errors are binomial, and the Clopper-Pearson bound is exact. At
    confidence 1 - (1 - confidence) / K each, all bounds hold together (Bonferroni), and the largest share within the
    target may be taken. Selection with guaranteed risk: Geifman & El-Yaniv (2017), arXiv:1705.08500; as multiple
    testing: Angelopoulos et al. (2021), arXiv:2110.01052.

    `testing="fixed_sequence"` tests the shares one after the other from the smallest, each at the full level, and
    takes the last before the first that fails. A false promise is made only if the first share in the sequence that
    breaks it passes, which has probability 1 - confidence at most, so that no correction is due (Maurer, Hothorn &
    Lehmacher, 1995; section 3.2 of Angelopoulos et al.). It keeps more where the measure sorts well and pairs are
    many, and nothing where the smallest share fails, whatever larger ones would do. Choose before you look at labels.

    Args:
        values (`ArrayLike` of shape `(N,)`): uncertainty of each labelled pair, as from
            [`combine_pair_uncertainty`]; higher = less sure.
        correct (`ArrayLike` of shape `(N,)`, bool): whether the model prefers the chosen answer.
        target_error (`float`, *optional*, defaults to `0.1`): the largest share of kept pairs that may be wrong.
        confidence (`float`, *optional*, defaults to `0.95`): the probability that the promise is kept.
        shares (`list[float]`, *optional*): shares of the pairs to try to keep, in (0, 1], fixed before labels are
            looked at; with Bonferroni's correction fewer give tighter bounds. Those too small to pass without a single
            error are left out. By default 0.1, 0.2, ... 1; in a fixed sequence 0.3, 0.35, ... 1.
        testing (`str`, *optional*, defaults to `"bonferroni"`): how several shares may be tested and the promise be
            kept: "bonferroni" or "fixed_sequence".
        new_pairs (`int`, *optional*): how many pairs will be filtered. The promise is then that at most `target_error`
            of the kept ones are wrong, with probability `confidence` over both samples, also where one set of pairs is
            split at random: given the errors of both together, the labelled ones are hypergeometric, because any pair
            could have been on either side. It needs a wider margin.
        groups (`list` of length `N`, *optional*): the prompt of each pair. Pairs of one prompt are not independent:
            one of each prompt is drawn and used, and the promise is about such pairs.
        seed (`int`, *optional*, defaults to `0`): of that draw.

    Returns:
        [`FittedThreshold`]: to pass to a filter, or to print.

    Raises:
        ValueError: lengths differ, a value is not finite, `correct` is not true or false, a share is not in (0, 1], no
            such `testing`.
    """
    if testing not in TESTING:
        raise ValueError(f"`testing` must be one of {', '.join(TESTING)}, got {testing!r}.")
    in_sequence = testing == "fixed_sequence"
    if shares is None:
        shares = SEQUENCE if in_sequence else SHARES
    measured, wrong = _check_labels(values, correct)
    _check_settings(target_error, confidence, shares, new_pairs)
    if groups is not None:
        drawn = _draw_one_of_each(groups, len(measured), seed)
        measured, wrong = measured[drawn], wrong[drawn]
    candidates = _test_candidates(measured, wrong, target_error, 1 - confidence, shares, new_pairs, in_sequence)
    chosen = max((c for c in candidates if c.upper_bound <= target_error), key=lambda c: c.share, default=None)
    n = len(measured)
    reason = "" if chosen else _explain_none(candidates, n, target_error, 1 - confidence)
    return FittedThreshold(target_error, confidence, n, chosen, reason, candidates)


def _test_candidates(
    values: np.ndarray,
    wrong: np.ndarray,
    target: float,
    delta: float,
    shares: Sequence[float],
    new_pairs: int | None,
    in_sequence: bool,
) -> list[Candidate]:
    """
    The thresholds of the shares that can pass, with bounds that hold together with probability 1 - delta; in sequence
    with bounds that hold with it each, up to the first above the target.
    """
    n = len(values)
    order = np.argsort(values)
    values, errors = values[order], np.concatenate([[0], np.cumsum(wrong[order])])
    planned: dict[float, int] = {}
    for share in sorted(set(shares)):
        rank = round(share * n)
        # Strictly below the value of the share's rank: given that value, the pairs below it are independent draws of
        # all pairs below it, which the pair of that rank itself is not.
        planned[share] = n if rank == n else max(rank - 1, 0)
    # Without an error, m pairs pass at level d where (1 - target)^m <= d. That is known before any label is, so that
    # shares may be left out by it, and the others share the level among fewer.
    while planned and (1 - target) ** min(planned.values()) > delta / (1 if in_sequence else len(planned)):
        planned.pop(next(iter(planned)))
    level = delta / (1 if in_sequence else max(len(planned), 1))
    candidates = []
    for share, count in planned.items():
        threshold, kept = math.inf, n
        if count < n:
            threshold = float(np.nextafter(values[count], -math.inf))  # filters keep values up to the threshold
            kept = int(np.searchsorted(values, values[count]))  # fewer than planned where values tie
        new = None if new_pairs is None else round(kept * new_pairs / n)
        bound = _compute_upper_bound(int(errors[kept]), kept, level, new)
        candidates.append(Candidate(share, threshold, kept, int(errors[kept]), bound))
        if in_sequence and bound > target:
            break
    return candidates


def _compute_upper_bound(errors: int, n: int, delta: float, new: int | None) -> float:
    """
    Exceeded with probability at most delta: by the error rate (Clopper-Pearson), or by the share of `new` pairs that
    are wrong: the largest with which so few errors would fall to the n labelled ones with a probability above delta.
    """
    # nothing but errors bounds nothing, and a share of no pairs can be anything
    if errors >= n or new == 0:
        return 1.0
    if new is None:
        return float(betaincinv(errors + 1, n - errors, 1 - delta))
    wrong = np.arange(new + 1)  # how many of the new pairs may be wrong
    # all n + new pairs are exchangeable: given their errors together, those of the labelled ones are hypergeometric
    possible = hypergeom.cdf(errors, n + new, errors + wrong, n) > delta
    return float(wrong[possible].max() / new)


def _explain_none(candidates: list[Candidate], n: int, target: float, delta: float) -> str:
    if not candidates:
        needed = math.ceil(math.log(delta) / math.log(1 - target))
        return f"{n} pairs are too few: even without an error, {needed} or more must be kept to show it."
    best = min(candidates, key=lambda candidate: candidate.upper_bound)
    return (
        f"no share passes; the nearest keeps {best.n_kept} pairs, {best.n_errors} of them wrong, which may mean an "
        f"error of up to {best.upper_bound:.3f}."
    )


def _draw_one_of_each(groups: Sequence[Hashable], n: int, seed: int) -> np.ndarray:
    """One row of each group, drawn at random."""
    if len(groups) != n:
        raise ValueError(f"`groups` needs an entry for each of the {n} pairs, got {len(groups)}.")
    generator = np.random.default_rng(seed)
    return np.array([generator.choice(rows) for rows in rows_by_group(groups)], dtype=int)


def check_values(values: ArrayLike) -> np.ndarray:
    """
    Uncertainties `(N,)` as float64.

    Raises:
        ValueError: another shape, or a value that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"uncertainties must be of shape (N,), got {array.shape}.")
    unsound = np.flatnonzero(~np.isfinite(array))
    if len(unsound):
        raise ValueError(
            f"uncertainties are not finite in rows {unsound[:8].tolist()}: {array[unsound[:8]].tolist()}."
        )
    return array


def _check_labels(values: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """(N,) uncertainties, and (N,) whether each pair is wrong."""
    measured, array = check_values(values), np.asarray(correct)
    if array.ndim != 1 or not np.isin(array, (0, 1)).all():
        raise ValueError("`correct` must hold true or false (1 or 0) for each pair.")
    if len(measured) != len(array):
        raise ValueError(f"`values` and `correct` must be of one length, got {len(measured)} and {len(array)}.")
    return measured, ~array.astype(bool)


def _check_settings(target_error: float, confidence: float, shares: Sequence[float], new_pairs: int | None):
    for name, value in (("target_error", target_error), ("confidence", confidence)):
        if not 0 < value < 1:
            raise ValueError(f"`{name}` must lie between 0 and 1, got {value}.")
    if new_pairs is not None and new_pairs < 1:
        raise ValueError(f"`new_pairs` must be positive, got {new_pairs}.")
    if not len(shares) or not all(0 < share <= 1 for share in shares):
        raise ValueError(f"`shares` must lie in (0, 1], got {shares}.")
