"""Evaluation of predicted rating distributions against the ratings of human annotators."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats

from urm_hf.trainers.losses import censored_nll, gaussian_nll


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
        means, stds (`(N, n)`): predictions on the rating scale. ratings (`(N, n, R)`): NaN where there is none.
        label_means, label_stds (`(n,)`): of the training ratings; NLL and MSE are in these units, so that attributes
            on different scales can be averaged. The NLL of the rating scale is higher by log(label_std).

    Metrics (lower is better for nll, censored_nll, mse; 1 is best for pearson, spearman and residual_variance):
        nll: Gaussian negative log-likelihood of a rating, natural log. censored_nll: of the rating's interval, the
            tails included at the ends of the scale; only where a scale is declared; comparable between losses.
        mse: of a rating. pearson, spearman: predicted mean against the mean rating of each row.
        mean_std: predicted sigma on the rating scale. residual_variance: mean of ((s - mu) / sigma)^2.
        coverage68, coverage95: share of ratings inside mu +- 1 and 1.96 sigma (0.683 and 0.95 for a true Gaussian).
    """
    table: dict[str, dict[str, float]] = {}
    for k, attribute in enumerate(attributes):
        scale = (scales or {}).get(attribute)
        values = _one_attribute(
            (means[:, k] - label_means[k]) / label_stds[k],
            stds[:, k] / label_stds[k],
            (ratings[:, k] - label_means[k]) / label_stds[k],
            None if scale is None else _standardise_scale(scale, label_means[k], label_stds[k]),
        )
        values["mean_std"] = float(stds[:, k].mean())
        table[attribute] = values
    metrics = {f"{name}/{attribute}": value for attribute, values in table.items() for name, value in values.items()}
    for name in table[attributes[0]]:
        values = [table[attribute][name] for attribute in attributes if name in table[attribute]]
        metrics[name] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
    return metrics


def scales_tensor(
    scales: dict[str, Sequence[float]] | None,
    attributes: Sequence[str],
    label_means: Sequence[float],
    label_stds: Sequence[float],
) -> torch.Tensor:
    """Low, high and step of each attribute in standardised units, (n, 3); NaN where none is declared."""
    rows = [
        _standardise_scale((scales or {}).get(attribute), mean, std)
        for attribute, mean, std in zip(attributes, label_means, label_stds, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float32)


def _standardise_scale(scale: Sequence[float] | None, mean: float, std: float) -> list[float]:
    if scale is None:
        return [float("nan")] * 3
    low, high, *step = scale
    return [(low - mean) / std, (high - mean) / std, (step[0] if step else 0.0) / std]


def _one_attribute(mean: np.ndarray, std: np.ndarray, ratings: np.ndarray, scale) -> dict[str, float]:
    """All in standardised units: mean, std (N,), ratings (N, R)."""
    given = ~np.isnan(ratings)
    tensors = [torch.as_tensor(x, dtype=torch.float64) for x in (mean[:, None], std[:, None], ratings[:, None])]
    z = ((ratings - mean[:, None]) / std[:, None])[given]
    rated = given.any(1)
    observed = np.nanmean(ratings[rated], axis=1) if rated.any() else np.empty(0)
    varies = rated.sum() > 1 and np.ptp(observed) > 0 and np.ptp(mean[rated]) > 0
    count = max(1, given.sum())
    metrics = {
        "nll": float(gaussian_nll(*tensors).sum() / count),
        "mse": float(np.square(z * np.broadcast_to(std[:, None], given.shape)[given]).mean())
        if given.any()
        else np.nan,
        "pearson": float(stats.pearsonr(mean[rated], observed)[0]) if varies else float("nan"),
        "spearman": float(stats.spearmanr(mean[rated], observed)[0]) if varies else float("nan"),
        "residual_variance": float(np.square(z).mean()) if len(z) else np.nan,
        "coverage68": float((np.abs(z) <= 1).mean()) if len(z) else np.nan,
        "coverage95": float((np.abs(z) <= 1.96).mean()) if len(z) else np.nan,
    }
    if scale is not None:
        losses = censored_nll(*tensors, torch.tensor([scale], dtype=torch.float64))
        metrics["censored_nll"] = float(losses.sum() / count)
    return metrics
