"""
Are probabilities honest? P(the chosen answer is better) against how often it has the higher reward.

Every pair has the outcome "chosen is better"; nothing depends on which side a file writes first. Two kinds of
probability, both of the evidence e of a pair:

| variant | e | probability |
|---|---|---|
| logistic | margin of the rewards | sigmoid(e): Bradley-Terry, on which gates and reward models train |
| gaussian | margin / sqrt(std_chosen^2 + std_rejected^2) | Phi(e): `urm_hf.uncertainty.preference_probability` |

"..., tempered": of e / T. The temperature T of a pair is fitted by maximum likelihood on other prompts than its own.
"""

from collections.abc import Sequence

import numpy as np

from urm_hf.evaluation.entries import Curve
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.pairs.scored_pairs import ScoredPairs
from urm_hf.evaluation.pairs.temperature import LINKS, Link, crossfitted, fit_temperature
from urm_hf.statistics.bootstrap import compute_interval, resample_counts, rows_by_group
from urm_hf.uncertainty.measures import compute_uncertainty

BINS = 15  # of equal width over the confidences from 1/2 to 1, closed on the right
TEMPERATURE_SAMPLES = 200  # of prompts, for the interval of the temperature: each needs a fit
Z95 = 1.959963984540054


def calibration(pairs: ScoredPairs, samples: int = 1000, seed: int = 0) -> Measurements:
    """
    "brier", "nll", "ece" and the reliability curve of each kind of probability, before and after temperature, and the
    "temperature" that is best for all pairs (above 1: the probabilities are too sure).

    brier: mean of (1 - p)^2. nll: mean of -log p, natural, not clipped. ece: see `calibration_error`; it is above 0 in
    any finite sample: "ece_of_perfect" is its mean where these very probabilities are true. Intervals are over samples
    of prompts; those after temperature take the fitted temperatures as they are.
    """
    found = Measurements()
    for kind, evidence in compute_evidence(pairs).items():
        found += _judge(kind, evidence, LINKS[kind], pairs.prompts, samples, seed)
        found += _judge_tempered(kind, evidence, LINKS[kind], pairs.prompts, samples, seed)
    return found


def compute_evidence(pairs: ScoredPairs) -> dict[str, np.ndarray]:
    """The evidence (P) of each kind of probability that these scores give; infinite for pairs without any variance."""
    evidence = {"logistic": pairs.margins}
    if pairs.has_stds:
        stds = np.hypot(*(compute_uncertainty(side, "reward_std") for side in (pairs.chosen, pairs.rejected)))
        with np.errstate(divide="ignore", invalid="ignore"):
            evidence["gaussian"] = np.where(pairs.margins == 0, 0.0, pairs.margins / stds)
    return evidence


def _judge(
    variant: str, evidence: np.ndarray, link: Link, prompts: Sequence[str], samples: int, seed: int
) -> Measurements:
    right, p = evidence > 0, link.probability(evidence)
    confidence = np.maximum(p, 1 - p)
    losses = {"brier": np.square(1 - p), "nll": -link.log_probability(evidence)}
    absent = {}
    if not np.isfinite(losses["nll"]).all():
        wrong = int((~np.isfinite(losses.pop("nll"))).sum())
        absent[f"nll ({variant})"] = f"{wrong} pairs are given the probability 0: the likelihood is 0"

    def means(counts: np.ndarray) -> dict[str, np.ndarray]:
        found = {name: counts @ loss / counts.sum(1) for name, loss in losses.items()}
        return found | {"ece": calibration_error(confidence, right, counts)}

    values = {name: found.item() for name, found in means(np.ones((1, len(p)))).items()}
    draws = resample_counts(means, prompts, samples, seed)
    intervals = {name: compute_interval(draws.get(name)) for name in values}
    perfect = error_of_perfect(confidence, prompts, max(samples, 100), seed)
    intervals["ece"] = _interval_of_error(values["ece"], draws.get("ece"), perfect)
    values["ece_of_perfect"] = float(perfect.mean())
    n, distinct = len(p), len(set(prompts))
    metrics = [Measured(m, value, intervals.get(m), n, distinct, variant=variant) for m, value in values.items()]
    return Measurements(metrics, [build_reliability_curve(confidence, right, prompts, variant)], absent)


def number_bins(confidence: np.ndarray) -> np.ndarray:
    """The bin, from 0 to BINS - 1, of each confidence: (1/2, 1/2 + 1/(2 BINS)], ...; 1/2 itself is in the first."""
    return np.digitize(confidence, np.linspace(0.5, 1, BINS + 1)[1:-1], right=True)


def calibration_error(confidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """
    ECE of S samples, (S,): the mean over pairs of |accuracy - mean confidence| of the pair's bin (Guo et al., 2017,
    arXiv:1706.04599).

    Args:
        confidence (P): max(p, 1 - p), of the side that is taken to be better.
        right (P): whether that is the chosen one. A tie, p = 1/2, is wrong, as in accuracy.
        counts (S, P): how often each pair is in each sample.
    """
    return np.abs(counts @ (_in_bins(confidence) * (right - confidence)[:, None])).sum(1) / counts.sum(1)


def error_of_perfect(confidence: np.ndarray, prompts: Sequence[str], samples: int, seed: int) -> np.ndarray:
    """
    The ECE, (samples,), of probabilities that are perfect: outcomes are drawn from them (Broecker and Smith, 2007,
    doi:10.1175/WAF993.1). Pairs of one prompt share one draw, as if they were all alike.
    """
    rng, bins = np.random.default_rng(seed), _in_bins(confidence)
    prompt = np.unique(np.asarray(prompts, dtype=object).astype(str), return_inverse=True)[1]
    found = np.empty(samples)
    for number in range(samples):
        right = rng.random(prompt.max() + 1)[prompt] < confidence
        found[number] = np.abs((right - confidence) @ bins).sum() / len(confidence)
    return found


def _in_bins(confidence: np.ndarray) -> np.ndarray:
    """(P, BINS) 1 in the bin of each pair, else 0."""
    return (number_bins(confidence)[:, None] == np.arange(BINS)).astype(np.float64)


def _interval_of_error(value: float, draws: np.ndarray | None, perfect: np.ndarray) -> tuple[float, float] | None:
    """
    Finite samples overstate an ECE, and samples of samples once more. So the percentiles are mirrored about the value
    (the basic bootstrap, which takes the bias out), and widened to hold the value, and 0 if perfect probabilities
    might have given as much.
    """
    percentiles = compute_interval(draws)
    if percentiles is None:
        return None
    low = 0.0 if value <= np.quantile(perfect, 0.975) else max(0.0, 2 * value - percentiles[1])
    return min(low, value), max(2 * value - percentiles[0], value)


def build_reliability_curve(
    confidence: np.ndarray, right: np.ndarray, prompts: Sequence[str], variant: str = ""
) -> Curve:
    """
    Mean confidence, accuracy and count of each bin that is not empty, with Wilson's 95 % interval.

    Its number of trials is that of Kish, (sum m)^2 / sum m^2 for prompts with m pairs in the bin: pairs of one prompt
    count as if they were all alike, so that the interval is rather too wide than too narrow.
    """
    bins, names = number_bins(confidence), np.asarray(prompts, dtype=object)
    points = []
    for number in np.unique(bins):
        inside = bins == number
        sizes = np.array([len(rows) for rows in rows_by_group(names[inside])])
        accuracy = right[inside].mean()
        low, high = wilson_interval(accuracy, sizes.sum() ** 2 / np.square(sizes).sum())
        points.append((float(confidence[inside].mean()), float(accuracy), float(low), float(high), int(inside.sum())))
    x, y, lows, highs, n = map(list, zip(*points, strict=True))
    return Curve("reliability", variant, x, y, lows, highs, n)


def wilson_interval(share: float, trials: float) -> tuple[float, float]:
    """Wilson's 95 % interval of a share; `trials` need not be whole, for which scipy has none."""
    centre = share + Z95**2 / (2 * trials)
    half = Z95 * np.sqrt(share * (1 - share) / trials + Z95**2 / (4 * trials**2))
    low, high = (centre - half) / (1 + Z95**2 / trials), (centre + half) / (1 + Z95**2 / trials)
    return max(0.0, low), min(1.0, high)


def _judge_tempered(
    kind: str, evidence: np.ndarray, link: Link, prompts: Sequence[str], samples: int, seed: int
) -> Measurements:
    variant = f"{kind}, tempered"
    clusters = rows_by_group(prompts)
    reason = _why_no_temperature(evidence, len(clusters))
    if reason:
        return Measurements(absent={f"temperature ({kind})": reason, f"brier, nll, ece ({variant})": reason})
    found = _judge(variant, evidence / crossfitted(evidence, link, clusters, seed), link, prompts, samples, seed)
    best = fit_temperature(evidence, link)
    if best.unbounded:
        return found + Measurements(absent={f"temperature ({kind})": best.unbounded})

    def fitted(counts: np.ndarray) -> dict[str, np.ndarray]:
        return {"temperature": np.array([fit_temperature(evidence, link, drawn).value for drawn in counts])}

    draws = resample_counts(fitted, prompts, min(samples, TEMPERATURE_SAMPLES), seed)
    bounds = compute_interval(draws.get("temperature"))
    temperature = Measured("temperature", best.value, bounds, len(evidence), len(clusters), variant=kind)
    return found + Measurements([temperature])


def _why_no_temperature(evidence: np.ndarray, prompts: int) -> str:
    if not np.isfinite(evidence).all():
        return f"{int((~np.isfinite(evidence)).sum())} pairs have no variance: no temperature changes them"
    if not evidence.any():
        return "all margins are 0"
    return "there is one prompt only: a temperature needs others to be fitted on" if prompts < 2 else ""
