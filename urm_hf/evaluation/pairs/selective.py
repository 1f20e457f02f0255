"""
What keeping only the pairs that a model is sure of buys: risk-coverage curves, and whether uncertainty tells errors.

Pairs are kept from the surest on. Those of equal uncertainty share one fate (`urm_hf.filtering`); where a metric needs
an order among them, it is the mean over all orders, so that the order of the rows never matters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.evaluation.entries import Curve
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.pairs.calibration import compute_evidence
from urm_hf.evaluation.pairs.scored_pairs import ScoredPairs
from urm_hf.statistics.auroc import compute_auroc, compute_auroc_of_counts
from urm_hf.statistics.bootstrap import compute_interval, compute_interval_of_share, resample_counts
from urm_hf.uncertainty.filtering import combine_pair_uncertainty, filter_values
from urm_hf.uncertainty.measures import available, compute_uncertainty, margin_gap

SHARES = (0.9, 0.8, 0.5)
POINTS = 50  # of a curve, at most


def selective(pairs: ScoredPairs, samples: int = 1000, seed: int = 0, above: str = "either") -> Measurements:
    """
    For every uncertainty of `uncertainties`, as the variant:

    aurc: mean over k = 1 ... P of the error among the k surest pairs (Geifman and El-Yaniv, 2017, arXiv:1705.08500).
    excess_aurc: that, less the AURC of the oracle, which puts every error last.
    auroc_errors: P(a wrong pair is less sure than a right one), ties half; 0.5 is chance.
    accuracy_kept, share_kept: at least 90, 80 and 50 % kept, and the share that ties really keep.
    accuracy_gain: accuracy_kept less the accuracy of all pairs, both of the same samples.
    risk_coverage: the error of those kept against the share kept; every band is of its own share, not of the curve.

    All have 95 % intervals over samples of prompts, but share_kept, which is a fact. Each sample keeps its own share.

    Args:
        above: "either" or "both", for the uncertainties of single answers, as in
            `urm_hf.filtering.combine_pair_uncertainty`.
    """
    found = Measurements()
    for name, values in uncertainties(pairs, above).items():
        found += _measure_one(name, values, pairs, samples, seed)
    return found


def uncertainties(pairs: ScoredPairs, above: str = "either") -> dict[str, np.ndarray]:
    """
    Each uncertainty of pairs that these scores give, (P), higher = less sure.

    The measures of `urm_hf.uncertainty.MEASURES` ("aleatoric" not: it is attribute_variance by another name), of an
    ensemble its "margin gap", "probability near 1/2" of the Gaussian probability, and of any model "margin near 0".
    """
    both = [*pairs.chosen, *pairs.rejected]
    names = [name for name in available(both) if name != "aleatoric"]
    found = {
        name: combine_pair_uncertainty(
            compute_uncertainty(pairs.chosen, name), compute_uncertainty(pairs.rejected, name), above
        )
        for name in names
    }
    if all(score.get("member_rewards") is not None for score in both):
        found["margin gap"] = margin_gap(pairs.chosen, pairs.rejected)
    evidence = compute_evidence(pairs)
    if "gaussian" in evidence:
        # |z| has the order of |p - 1/2|, also where p rounds to 1
        found["probability near 1/2"] = -np.nan_to_num(np.abs(evidence["gaussian"]))
    return found | {"margin near 0": -np.abs(pairs.margins)}


def _measure_one(name: str, values: np.ndarray, pairs: ScoredPairs, samples: int, seed: int) -> Measurements:
    wrong, prompts = ~pairs.right, np.asarray(pairs.prompts, dtype=object)
    # sorted once, not in each of a thousand samples: a sample only changes how often each pair counts
    order, starts = _group_equal(values)
    grid = _choose_shares(values)

    def measure_of(counts: np.ndarray) -> dict[str, np.ndarray]:
        kept = np.add.reduceat(counts[:, order], starts, axis=1)
        lost = np.add.reduceat((counts * wrong)[:, order], starts, axis=1)
        return RiskCoverage(kept, lost).metrics((*SHARES, *grid))

    values_of_all = measure_of(np.ones((1, len(values)), dtype=np.int64))
    draws = resample_counts(measure_of, pairs.prompts, samples, seed)
    n, distinct = len(values), len(set(prompts))
    metrics: list[Measured] = []
    absent: dict[str, str] = {}
    for metric in ("aurc", "excess_aurc"):
        value, bounds = values_of_all[metric].item(), compute_interval(draws.get(metric))
        metrics.append(Measured(metric, value, bounds, n, distinct, variant=name))
    # P(a wrong pair is less sure than a right one) needs one of each
    if wrong.all() or not wrong.any():
        absent[f"auroc_errors ({name})"] = "every pair is wrong" if wrong.all() else "no pair is wrong"
    else:
        auroc = float(compute_auroc(values[~wrong], values[wrong]))
        bounds = compute_interval(draws.get("auroc_errors"))
        metrics.append(Measured("auroc_errors", auroc, bounds, n, distinct, variant=name))
    errors = draws.get("errors", np.empty((0, len(SHARES) + len(grid))))
    draws_of_all = 1 - errors[:, -1] if len(errors) else None  # the last point of the grid keeps every pair
    for number, share in enumerate(SHARES):
        kept = filter_values(values, keep=share).kept
        draws_of_kept = 1 - errors[:, number] if len(errors) else None
        metrics += _measure_kept(name, share, kept, pairs, draws_of_kept, draws_of_all)
    return Measurements(metrics, [_build_curve(name, values_of_all, errors[:, len(SHARES) :])], absent)


def _measure_kept(
    name: str,
    share: float,
    kept: np.ndarray,
    pairs: ScoredPairs,
    draws: np.ndarray | None,
    draws_of_all: np.ndarray | None,
) -> list[Measured]:
    """Accuracy of the kept pairs, what it gains over that of all, and their share."""
    accuracy, prompts = (
        float(pairs.right[kept].mean()),
        len({pairs.prompts[row] for row in np.flatnonzero(kept).tolist()}),
    )
    place = {"level": "kept", "group": str(share), "variant": name}
    bounds = compute_interval_of_share(accuracy, prompts, draws)
    gain, n, distinct = accuracy - float(pairs.right.mean()), len(kept), len(set(pairs.prompts))
    bounds_of_gain = compute_interval(draws - draws_of_all) if draws is not None and draws_of_all is not None else None
    return [
        Measured("accuracy_kept", accuracy, bounds, int(kept.sum()), prompts, **place),
        Measured("accuracy_gain", gain, bounds_of_gain, n, distinct, **place),
        Measured("share_kept", float(kept.mean()), None, n, distinct, **place),
    ]


def _group_equal(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows from the surest on, (P), and where in that order each group of equal values starts."""
    # stable, so that the result is the same on every machine; within a group the order is averaged over anyway
    order = np.argsort(values, kind="stable")
    return order, np.flatnonzero(np.r_[True, np.diff(values[order]) != 0])


def _choose_shares(values: np.ndarray) -> np.ndarray:
    """Shares that a curve shows, POINTS at most, each as ties allow: none twice."""
    ranks = np.unique(np.ceil(np.linspace(0, 1, POINTS + 1)[1:] * len(values)).astype(int))
    ascending = np.sort(values)
    # the end of a group of ties: a point inside one would show a share that no threshold can keep
    return np.unique(np.searchsorted(ascending, ascending[ranks - 1], side="right")) / len(values)


def _build_curve(variant: str, values: dict[str, np.ndarray], errors: np.ndarray) -> Curve:
    x, y = (values[name][0, len(SHARES) :] for name in ("kept", "errors"))
    low: list[float | None] = [None] * len(x)
    high = low
    if len(errors):
        low, high = np.quantile(errors, [0.025, 0.975], axis=0).tolist()
    return Curve("risk_coverage", variant, x.tolist(), y.tolist(), low, high)


@dataclass(frozen=True)
class RiskCoverage:
    """
    S samples of pairs, sorted into G groups of equal uncertainty, the surest first.

    Args:
        size, wrong (S, G): pairs and wrong pairs in each group, whole numbers; a group may be empty.
    """

    size: np.ndarray
    wrong: np.ndarray

    def metrics(self, shares: Sequence[float]) -> dict[str, np.ndarray]:
        """aurc, excess_aurc, auroc_errors (S,), and for K shares the `kept` ones and their `errors` (S, K)."""
        kept, lost = self.size.cumsum(1), self.wrong.cumsum(1)
        n, errors = kept[:, -1], lost[:, -1]
        aurc = self._aurc(kept, lost)
        auroc = compute_auroc_of_counts(self.size - self.wrong, self.wrong)
        ranks = np.ceil(np.round(np.multiply.outer(n, shares), 6)).astype(np.int64)  # as `filter_values` does
        at = np.stack([np.searchsorted(row, rank) for row, rank in zip(kept, ranks, strict=True)])
        kept, lost = (np.take_along_axis(values, at, axis=1) for values in (kept, lost))
        return {
            "aurc": aurc,
            "excess_aurc": aurc - oracle_aurc(n, errors),
            "auroc_errors": auroc,
            "kept": kept / n[:, None],
            "errors": lost / kept,
        }

    def _aurc(self, kept: np.ndarray, lost: np.ndarray) -> np.ndarray:
        """
        A group of m pairs, e of them wrong, after k pairs with l wrong: over all orders the error among the first
        k + j is (l + j e / m) / (k + j) = e / m + (l - k e / m) / (k + j), and the sum of 1 / (k + j) over
        j = 1 ... m is H(k + m) - H(k), with the harmonic numbers H.
        """
        harmonic = harmonic_numbers(int(kept[:, -1].max()))
        before, lost_before = kept - self.size, lost - self.wrong
        share = self.wrong / np.maximum(self.size, 1)  # a sample may hold none of a group: 0 of 0 counts as 0
        sums = self.wrong + (lost_before - before * share) * (harmonic[kept] - harmonic[before])
        return sums.sum(1) / kept[:, -1]


def oracle_aurc(n: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """AURC where all errors come last: sum over j = 1 ... E of j / (n - E + j), divided by n."""
    harmonic, right = harmonic_numbers(int(n.max())), n - errors
    return (errors - right * (harmonic[n] - harmonic[right])) / n


def harmonic_numbers(highest: int) -> np.ndarray:
    """H(0) ... H(highest)."""
    return np.concatenate([[0.0], np.cumsum(1 / np.arange(1, highest + 1))])
