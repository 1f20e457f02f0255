"""What predicted ratings are held against: the constant predictor, and what annotators know of each other."""

import numpy as np

from urm_hf.evaluation.measured import Measured, with_intervals
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.ratings.data import RatingSet
from urm_hf.evaluation.ratings.metrics import measured_ratings
from urm_hf.statistics.bootstrap import rows_by_group
from urm_hf.statistics.likelihoods import gaussian_nll_of_arrays
from urm_hf.statistics.rating_metrics import correlation

CONSTANT = "constant"
JUDGED = ("nll", "crps", "coverage50", "coverage68", "coverage95", "sharpness")


def constant_metrics(data: RatingSet, samples: int = 1000, seed: int = 0) -> Measurements:
    """
    The metrics of one Gaussian for all conversations: mean and standard deviation of the ratings of all other prompts.

    It sees no training ratings, so that it is the same whichever model it stands beside. No correlations: leaving a
    prompt out moves the mean away from its ratings, so that theirs would lie below 0 by construction.
    """
    clusters = rows_by_group(data.prompts)
    if len(clusters) < 2:
        return Measurements(absent={CONSTANT: "there is one prompt only: nothing is left to predict its ratings from"})
    means, stds = np.empty(data.ratings.shape[:2]), np.empty(data.ratings.shape[:2])
    for rows in clusters:
        others = np.delete(data.ratings, rows, axis=0)
        for k in range(len(data.attributes)):
            known = others[:, k][~np.isnan(others[:, k])]
            if len(known) < 2 or known.std() == 0:
                why = f"without one prompt, the ratings of {data.attributes[k]} are too few, or all the same"
                return Measurements(absent={CONSTANT: why})
            means[rows, k], stds[rows, k] = known.mean(), known.std()
    found = measured_ratings(data, data.attributes, means, stds, samples, seed)
    absent = {name: why for name, why in found.absent.items() if name.partition("/")[0] in JUDGED}
    return Measurements([metric for metric in found.metrics if metric.metric in JUDGED], absent=absent)


def noise_ceiling(data: RatingSet, samples: int = 1000, seed: int = 0) -> Measurements:
    """
    How well an annotator is predicted by the others of the same conversation, each left out in turn.

    noise_ceiling_pearson: Pearson's, of a rating and the mean of the others'. The model's `single_pearson` is judged
        in the same way; its `pearson`, against the mean of all, may be higher.
    noise_ceiling_nll: of a rating under the Gaussian that follows from the others' mean in a one-way random-effects
        model (`others_predict`). A standard deviation of the one or two others themselves would mostly be noise, or 0.

    A ceiling of what the other annotators know: where they are few, a model that has learnt from many conversations
    can pass it. n: ratings of conversations with several. Averages over the attributes that have a ceiling.
    """
    columns, absent = {}, dict[str, str]()
    metrics: list[Measured] = []
    for k, attribute in enumerate(data.attributes):
        ratings = data.ratings[:, k]
        several = (~np.isnan(ratings)).sum(1) > 1
        if not several.any():
            absent[f"noise_ceiling/{attribute}"] = "no conversation has several ratings"
            continue
        columns[attribute] = others_predict(np.where(several[:, None], ratings, np.nan))
        if columns[attribute][2] is None:
            absent[f"noise_ceiling_nll/{attribute}"] = "the annotators of a conversation never differ"

    def measure(rows: np.ndarray) -> dict[str, float]:
        values = {}
        for attribute, (held_out, others, losses) in columns.items():
            given = ~np.isnan(others[rows])
            values[f"noise_ceiling_pearson/{attribute}"] = correlation(held_out[rows][given], others[rows][given])
            if losses is not None:
                values[f"noise_ceiling_nll/{attribute}"] = _mean(losses[rows][given])
        names = dict.fromkeys(name.partition("/")[0] for name in values)
        means = {n: np.mean([v for name, v in values.items() if name.startswith(f"{n}/")]).item() for n in names}
        return values | means

    if not columns:
        return Measurements(absent=absent)
    for one in with_intervals(measure, len(data.prompts), rows_by_group(data.prompts), samples, seed):
        if np.isnan(one.value):
            absent[one.metric] = "no variation"
        else:
            metrics.append(_place(one, columns, data))
    return Measurements(metrics, absent=absent)


def others_predict(ratings: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """
    Each rating, the mean of its conversation's others, and its NLL given these, (N, R) each; NaN where there are none.

    Ratings are s = m + b + e with a conversation's b ~ N(0, t^2) and an annotator's e ~ N(0, w^2). Given k others of
    mean o, the held-out one is N(m + r (o - m), w^2 + t^2 (1 - r)) with r = k t^2 / (k t^2 + w^2): shrunk towards the
    mean of all, by as much as k ratings are unreliable. The three parameters are those of the analysis of variance of
    all ratings. The NLL is None if w^2 is 0: then a rating is known from the others exactly.

    Args:
        ratings (`(N, R)`): NaN where there is none.
    """
    count = (~np.isnan(ratings)).sum(1, keepdims=True)
    total = np.nansum(ratings, axis=1, keepdims=True)
    k = np.maximum(count - 1, 1)
    others = np.where(count > 1, (total - ratings) / k, np.nan)
    m, between, within = variance_components(ratings)
    if within == 0:
        return ratings, others, None
    r = k * between / (k * between + within)
    stds = np.sqrt(within + between * (1 - r)) * np.ones_like(ratings)
    # each rating has a prediction of its own: the annotators stand where the likelihood expects attributes
    nll = gaussian_nll_of_arrays(m + r * (others - m), stds, ratings[..., None])[..., 0]
    return ratings, others, np.where(np.isnan(ratings), np.nan, nll)


def variance_components(ratings: np.ndarray) -> tuple[float, float, float]:
    """
    Mean of all ratings, and their variance between conversations (0 or more) and within them.

    Of the one-way analysis of variance, unbalanced: Searle, Casella and McCulloch, "Variance Components" (1992), 3.6.

    Args:
        ratings (`(N, R)`): NaN where there is none; some conversation has several.
    """
    counts = (~np.isnan(ratings)).sum(1)
    rated = ratings[counts > 0]
    counts, means = counts[counts > 0], np.nanmean(rated, axis=1)
    n, groups, mean = counts.sum(), len(counts), float(np.nanmean(rated))
    within = float(np.nansum(np.square(rated - means[:, None])) / (n - groups))
    if groups < 2:
        return mean, 0.0, within
    among = float((counts * np.square(means - mean)).sum() / (groups - 1))
    return mean, max(0.0, (among - within) / ((n - np.square(counts).sum() / n) / (groups - 1))), within


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _place(one: Measured, columns: dict, data: RatingSet) -> Measured:
    """With its level, and the ratings behind it."""
    metric, _, attribute = one.metric.partition("/")
    given = [~np.isnan(others) for name, (_, others, _) in columns.items() if attribute in ("", name)]
    rows = np.flatnonzero(np.any([part.any(1) for part in given], axis=0))
    n, prompts = int(sum(part.sum() for part in given)), len({data.prompts[row] for row in rows})
    level, group = ("attribute", attribute) if attribute else (None, None)
    return Measured(metric, one.value, one.interval, n, prompts, level, group)
