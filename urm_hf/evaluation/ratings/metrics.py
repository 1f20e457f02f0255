"""
How well predicted ratings match those of annotators, attribute by attribute, and what they could at best.

Everything of one attribute is on its rating scale. Averages over attributes have neither level nor group; those of
CRPS and sharpness, which have the unit of a rating, are given only where all attributes have one range.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import rankdata

from urm_hf.evaluation.measured import Measured, with_intervals
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.ratings.coverage import coverage_by_length, hold_ratings, share_held
from urm_hf.evaluation.ratings.data import RatingSet, matched
from urm_hf.statistics.bootstrap import rows_by_group
from urm_hf.statistics.likelihoods import gaussian_nll_of_arrays
from urm_hf.statistics.rating_metrics import attribute_metrics, correlation

REPORTED = (
    "nll",
    "crps",
    "pearson",
    "spearman",
    "coverage50",
    "coverage68",
    "coverage95",
    "sharpness",
    "spread_pearson",
    "single_pearson",
    *(f"interval_coverage{level}" for level in (50, 68, 90, 95)),
    *(f"interval_width{level}" for level in (68, 95)),
)
IN_RATINGS = ("crps", "sharpness", "interval_width68", "interval_width95")  # in the unit of a rating
OF_SIGMA = ("nll", "crps", "coverage50", "coverage68", "coverage95", "sharpness", "spread_pearson")
# of conversations, not of ratings
OF_ROWS = ("pearson", "spearman", "spread_pearson", "sharpness", "interval_width68", "interval_width95")


def rating_metrics(
    data: RatingSet,
    scores: Sequence[Any],
    mapping: Mapping[str, str] | None = None,
    samples: int = 1000,
    seed: int = 0,
) -> Measurements:
    """
    Metrics of a model's attributes, and of its reward.

    nll, crps: of a rating under N(mu, sigma^2); natural logarithm; lower is better.
    pearson, spearman: mu and the mean rating of each conversation. single_pearson: mu and each single rating, which is
        what "noise_ceiling_pearson" is the ceiling of.
    coverage50, coverage68, coverage95: share of ratings inside mu -+ 0.674, 1 and 1.96 sigma.
    interval_coverage50, 68, 90, 95: share of ratings inside the model's `intervals`, if it is calibrated.
    Of thirds by length, at the level "length", coverage68 and coverage95 and those of intervals.
    interval_width68, interval_width95: their mean width, over all conversations.
    sharpness: mean sigma, over all conversations. spread_pearson: sigma^2 and the annotators' variance (divisor
        R - 1), of conversations with several ratings.
    pearson, spearman with the variant "reward": the reward and the mean rating; all that a scalar model is judged by.

    Args:
        scores (N): of `data.conversations`. mapping: as in [`matched`]; empty: the reward alone is judged.
    """
    _check_scores(data, scores)
    columns, ratings = list(range(len(data.attributes))), data.ratings
    found, absent = Measurements(), dict[str, str]()
    own = scores[0].get("attribute_means")
    if own is not None and mapping is not None and not mapping:
        told = f"the model has the attributes {', '.join(own)}, which are not those of the data: its reward is judged"
        absent[", ".join(name for name in REPORTED if name not in ("pearson", "spearman"))] = told
    elif own is not None:
        names = matched(data, list(scores[0]["attribute_means"]), mapping)
        columns = [data.attributes.index(attribute) for attribute in names]
        means, stds = predictions(scores, names)
        intervals = read_intervals(scores, names)
        found = measured_ratings(data, list(names), means, stds, samples, seed, intervals)
        if all(score.get("n_tokens") is not None for score in scores):
            lengths = np.array([score["n_tokens"] for score in scores])
            found += coverage_by_length(data, list(names), means, stds, intervals, lengths, samples, seed)
        if scores[0].get("attribute_stds") is None:
            found = found.without(OF_SIGMA, "the model was trained without sigma (by the squared error)")
    rewards = np.array([score["reward"] for score in scores], dtype=np.float64)
    attributes = [data.attributes[k] for k in columns]

    def of_reward(rows: np.ndarray) -> dict[str, float]:
        return _reward_correlations(rewards[rows], ratings[rows][:, columns], attributes)

    own_reward = _measured(of_reward, data, attributes, samples, seed, variant="reward")
    return found + Measurements(absent=absent) + own_reward


def predictions(scores: Sequence[Any], names: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """
    Means and stds (N, n) of the attributes `names`, the model's by those of the data, from scores. The stds of a model
    without sigma are 1.
    """
    means, stds = (
        np.array([[_read(score, field)[own] for own in names.values()] for score in scores], dtype=np.float64)
        for field in ("attribute_means", "attribute_stds")
    )
    unsound = np.flatnonzero(~(np.isfinite(means) & np.isfinite(stds) & (stds > 0)).all(1))
    if len(unsound):
        row = unsound[0]
        raise ValueError(
            f"scores[{row}] has means {means[row]} and stds {stds[row]}: finite, and stds positive, needed."
        )
    return means, stds


def read_intervals(scores: Sequence[Any], names: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Lower and upper ends (N, n, 2) of a calibrated model's intervals, by the level in per cent; of another none."""
    if any(score.get("intervals") is None for score in scores):
        return {}
    levels = {f"{100 * float(level):g}": level for level in scores[0]["intervals"]}
    return {
        percent: np.array([[score["intervals"][level][own] for own in names.values()] for score in scores])
        for percent, level in levels.items()
    }


def _read(score: Any, field: str) -> Mapping[str, float]:
    values = score.get(field)
    return dict.fromkeys(score["attribute_means"], 1.0) if values is None else values


def measured_ratings(
    data: RatingSet,
    attributes: Sequence[str],
    means: np.ndarray,
    stds: np.ndarray,
    samples: int,
    seed: int,
    intervals: Mapping[str, np.ndarray] | None = None,
) -> Measurements:
    """All metrics of predictions (N, n) for these attributes of the data, and of intervals (N, n, 2) by level."""
    ratings = data.ratings[:, [data.attributes.index(attribute) for attribute in attributes]]
    neutral = [0.0] * len(attributes), [1.0] * len(attributes)  # ratings stay in their own unit
    inside = {level: hold_ratings(ratings, ends[..., 0], ends[..., 1]) for level, ends in (intervals or {}).items()}

    def measure(rows: np.ndarray) -> dict[str, float]:
        found = attribute_metrics(means[rows], stds[rows], ratings[rows], attributes, *neutral)
        for k, attribute in enumerate(attributes):
            found[f"sharpness/{attribute}"] = found[f"mean_std/{attribute}"]
            found[f"single_pearson/{attribute}"] = single_correlation(means[rows, k], ratings[rows, k])
        for level, ends in (intervals or {}).items():
            shares, widths = share_held(inside[level][rows]), (ends[rows, :, 1] - ends[rows, :, 0]).mean(0)  # (n,)
            for attribute, share, width in zip(attributes, shares, widths, strict=True):
                found[f"interval_coverage{level}/{attribute}"] = float(share)
                found[f"interval_width{level}/{attribute}"] = float(width)
        return found

    return _measured(measure, data, attributes, samples, seed)


def single_correlation(means: np.ndarray, ratings: np.ndarray) -> float:
    """Pearson's, of predictions (N,) and single ratings (N, R)."""
    row, annotator = np.nonzero(~np.isnan(ratings))
    return correlation(means[row], ratings[row, annotator])


def row_nll(data: RatingSet, scores: Sequence[Any], mapping: Mapping[str, str] | None = None) -> np.ndarray:
    """(N,) NLL of a rating, averaged within each conversation: what two models are compared by, row by row."""
    _check_scores(data, scores)
    if scores[0].get("attribute_stds") is None:
        raise ValueError("a model without sigma gives ratings no likelihood.")
    names = matched(data, list(scores[0]["attribute_means"]), mapping)
    means, stds = predictions(scores, names)
    ratings = data.ratings[:, [data.attributes.index(attribute) for attribute in names]]
    losses = gaussian_nll_of_arrays(means, stds, ratings)  # 0 where there is no rating
    rated = ~np.isnan(ratings)
    if not rated.any((1, 2)).all():
        row = int(np.flatnonzero(~rated.any((1, 2)))[0])
        raise ValueError(f"{data.name}: conversation {row} has no rating of {', '.join(names)}; leave it out.")
    return losses.sum((1, 2)) / rated.sum((1, 2))


def _check_scores(data: RatingSet, scores: Sequence[Any]):
    if len(scores) != len(data.conversations):
        raise ValueError(f"{data.name} has {len(data.conversations)} conversations, got {len(scores)} scores.")
    with_attributes = sum(score.get("attribute_means") is not None for score in scores)
    if 0 < with_attributes < len(scores):
        raise ValueError(f"{with_attributes} of {len(scores)} scores have `attribute_means`: all of one model must.")


def _reward_correlations(rewards: np.ndarray, ratings: np.ndarray, attributes: Sequence[str]) -> dict[str, float]:
    found = {}
    for k, attribute in enumerate(attributes):
        rated = ~np.isnan(ratings[:, k]).all(1)
        observed = np.nanmean(ratings[rated, k], axis=1).round(5) if rated.any() else np.empty(0)
        found[f"pearson/{attribute}"] = correlation(rewards[rated], observed)
        found[f"spearman/{attribute}"] = correlation(rankdata(rewards[rated]), rankdata(observed))
    return found


def _measured(
    measure: Callable[[np.ndarray], dict[str, float]],
    data: RatingSet,
    attributes: Sequence[str],
    samples: int,
    seed: int,
    variant: str | None = None,
) -> Measurements:
    """`<metric>/<attribute>` of rows as metrics at the level of attributes, and their averages."""
    whole = measure(np.arange(len(data.prompts)))
    names = [f"{metric}/{attribute}" for metric in REPORTED for attribute in attributes]
    names = [name for name in names if name in whole]
    metrics = list(dict.fromkeys(name.partition("/")[0] for name in names))
    averaged = [metric for metric in metrics if metric not in IN_RATINGS or _one_range(data, attributes)]

    def reported(rows: np.ndarray) -> dict[str, float]:
        values = measure(rows)
        table = {name: values.get(name, float("nan")) for name in names}
        means = {m: float(np.mean([table[f"{m}/{attribute}"] for attribute in attributes])) for m in averaged}
        return table | means

    found = with_intervals(reported, len(data.prompts), rows_by_group(data.prompts), samples, seed)
    why = "attributes have different ranges, or undeclared ones: no average over them"
    absent = {metric: why for metric in metrics if metric not in averaged}
    for one in found:
        if np.isnan(one.value):
            several = " with several ratings" * one.metric.startswith("spread_pearson")
            name = one.metric + (f" ({variant})" if variant else "")
            absent[name] = f"no variation, or fewer than two conversations{several}"
    kept = [_placed(one, data, attributes, variant) for one in found if not np.isnan(one.value)]
    return Measurements(kept, absent=absent)


def _one_range(data: RatingSet, attributes: Sequence[str]) -> bool:
    ranges = {tuple(data.scales.get(attribute, ())) for attribute in attributes}
    return len(attributes) == 1 or (len(ranges) == 1 and ranges != {()})


def _placed(found: Measured, data: RatingSet, attributes: Sequence[str], variant: str | None) -> Measured:
    """With its level, the conversations or ratings behind it, and an interval without NaN."""
    metric, _, attribute = found.metric.partition("/")
    columns = [data.attributes.index(name) for name in ([attribute] if attribute else attributes)]
    given = ~np.isnan(data.ratings[:, columns])  # (N, n, R)
    behind = {"sharpness": np.ones(len(given), dtype=bool), "spread_pearson": (given.sum(2) > 1).any(1)}
    rows = behind.get(metric, given.any((1, 2)))
    n = int(rows.sum() if metric in OF_ROWS else given.sum())
    prompts = len({data.prompts[row] for row in np.flatnonzero(rows).tolist()})
    level, group = ("attribute", attribute) if attribute else (None, None)
    return Measured(metric, found.value, found.interval, n, prompts, level, group, variant)
