"""Evaluation of predicted rating distributions against the ratings of human annotators."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import ndtri
from scipy.stats import rankdata

from urm_hf.statistics.likelihoods import censored_nll, gaussian_crps, gaussian_nll


def attribute_metrics(
    means: np.ndarray,
    stds: np.ndarray,
    ratings: np.ndarray,
    attributes: Sequence[str],
    label_means: Sequence[float],
    label_stds: Sequence[float],
    scales: dict[str, Sequence[float]] | None = None,
) -> dict[str, float]:
    """
    Metrics of each attribute, as `<metric>/<attribute>`, and their averages over attributes, as `<metric>`.

    Args:
        means (`np.ndarray` of shape `(N, n)`): predictions on the rating scale.
        stds (`np.ndarray` of shape `(N, n)`): their standard deviations, above 0.
        ratings (`np.ndarray` of shape `(N, n, R)`): NaN where there is none.
        attributes (`list[str]`): names of the n attributes.
        label_means (`list[float]`): (n) of the training ratings. NLL and MSE are in units of these statistics, so that
            attributes on different scales can be averaged.
        label_stds (`list[float]`): (n) of the training ratings. The NLL of the rating scale is higher by their log.
        scales (`dict[str, list[float]]`, *optional*): low, high and step of attributes whose range is declared.

    Returns:
        `dict[str, float]`; NaN where a metric is not defined.

    Metrics (lower is better for nll, censored_nll, mse; 1 is best for pearson, spearman and residual_variance):
        nll: Gaussian negative log-likelihood of a rating, natural log. censored_nll: of the rating's interval, the
            tails included at the ends of the scale; only where a scale is declared; comparable between losses.
        mse: of a rating. pearson, spearman: predicted mean against the mean rating of each row.
        crps: continuous ranked probability score of a rating; an absolute error that also judges sigma.
        spread_pearson: predicted variance against the annotators' variance, of rows with several ratings; the latter
            is itself noisy, so that even the true variance would not reach 1.
        mean_std: predicted sigma on the rating scale. residual_variance: mean of ((s - mu) / sigma)^2.
        coverage50, coverage68, coverage95: share of ratings inside mu +- 0.674, 1 and 1.96 sigma (0.5, 0.683 and 0.95
            for a true Gaussian).
    """
    table: dict[str, dict[str, float]] = {}
    for k, attribute in enumerate(attributes):
        scale = (scales or {}).get(attribute)
        values = _measure_attribute(
            (means[:, k] - label_means[k]) / label_stds[k],
            stds[:, k] / label_stds[k],
            (ratings[:, k] - label_means[k]) / label_stds[k],
            None if scale is None else _standardize_scale(scale, label_means[k], label_stds[k]),
        )
        table[attribute] = values | {"mean_std": float(stds[:, k].mean())}
    metrics: dict[str, float] = {}
    by_name: dict[str, list[float]] = {}
    for attribute, values in table.items():
        for name, value in values.items():
            metrics[f"{name}/{attribute}"] = value
            by_name.setdefault(name, []).append(value)
    for name, found in by_name.items():
        # an attribute that nobody rated, or all alike, has no correlation: the average is of those that have one
        defined = [value for value in found if not np.isnan(value)]
        metrics[name] = float(np.mean(defined)) if defined else float("nan")
    return metrics


def scales_tensor(
    scales: dict[str, Sequence[float]] | None,
    attributes: Sequence[str],
    label_means: Sequence[float],
    label_stds: Sequence[float],
) -> torch.Tensor:
    """
    The declared scales as a tensor.

    Args:
        scales (`dict[str, list[float]]`, *optional*): `[low, high]` or `[low, high, step]` by attribute.
        attributes (`list[str]`): names of the n attributes.
        label_means (`list[float]`): (n) of the training ratings.
        label_stds (`list[float]`): (n) of the training ratings.

    Returns:
        `torch.Tensor` of shape `(n, 3)`: low, high and step of each attribute in units of its labels; NaN where none
        is declared.
    """
    rows = [
        _standardize_scale((scales or {}).get(attribute), mean, std)
        for attribute, mean, std in zip(attributes, label_means, label_stds, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def _standardize_scale(scale: Sequence[float] | None, mean: float, std: float) -> list[float]:
    if scale is None:
        return [float("nan")] * 3
    low, high, *step = scale
    return [(low - mean) / std, (high - mean) / std, (step[0] if step else 0.0) / std]


def _measure_attribute(mean: np.ndarray, std: np.ndarray, ratings: np.ndarray, scale) -> dict[str, float]:
    """All in standardised units: mean, std (N,), ratings (N, R)."""
    given = ~np.isnan(ratings)  # (N, R)
    if not given.any():
        return {}
    # (N, 1), (N, 1) and (N, 1, R): the likelihoods take an axis of attributes. In double precision, as metrics of two
    # models are compared in their last digits.
    mu, sigma, s = (torch.as_tensor(x, dtype=torch.float64) for x in (mean[:, None], std[:, None], ratings[:, None]))
    residuals = (ratings - mean[:, None])[given]  # of each rating, so that rows with several count for several
    z = ((ratings - mean[:, None]) / std[:, None])[given]
    rated, several = given.any(1), given.sum(1) > 1  # (N,): a mean needs one rating, a spread two
    observed = np.nanmean(ratings[rated], axis=1).round(5)  # equal means stay ties: [1, 3] and [2, 2]
    metrics = {
        "nll": float(gaussian_nll(mu, sigma, s).sum() / given.sum()),
        "mse": float(np.square(residuals).mean()),
        "crps": float(gaussian_crps(residuals, np.broadcast_to(std[:, None], ratings.shape)[given]).mean()),
        "pearson": correlation(mean[rated], observed),
        "spearman": correlation(rankdata(mean[rated]), rankdata(observed)),
        "spread_pearson": correlation(
            np.square(std[several]), np.nanvar(ratings[several].astype(np.float64), axis=1, ddof=1)
        ),
        "residual_variance": float(np.square(z).mean()),
        "coverage50": float((np.abs(z) <= ndtri(0.75)).mean()),
        "coverage68": float((np.abs(z) <= 1).mean()),
        "coverage95": float((np.abs(z) <= 1.96).mean()),
    }
    if scale is not None:
        losses = censored_nll(mu, sigma, s, torch.tensor([scale], dtype=torch.float64))
        metrics["censored_nll"] = float(losses.sum() / given.sum())
    return metrics


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's; NaN where it is not defined: fewer than two points, or no variation."""
    # tested here, since NumPy would warn of a division by 0 and give NaN all the same
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])
