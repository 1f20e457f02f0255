"""
What one model does not know: the posterior of a Bayesian linear regression of ratings on hidden states.

With hidden states h, standardised to z over the rated rows, ratings of attribute k are y = mean_k + m_k'z + noise. The
prior m_k ~ N(0, 1/alpha_k) and the noise variance 1/beta_k are found by maximising the evidence (MacKay, 1992, Neural
Computation 4(3), 415-447), and

    epistemic_k(h) = z' S_k z + 1/(beta_k N_k),    S_k = (alpha_k I + beta_k Z'Z)^-1,

is the variance of the mean that these ratings leave open. It is small where h resembles what was rated, and up to
|z|^2 / alpha_k where it does not: it answers "is this like what was rated?", not "which answer is better?". Of an
attribute that hidden states say nothing of, alpha_k would go to infinity: all means were equal, and known alike, also
of what nobody has seen the like of. It is bounded so that the prior's means of familiar rows vary by a hundredth of
the noise or more.

Ratings may be noisier in some rows than in others: with weights w_i, which the model's own sigma gives, the noise
variance of row i is 1/(beta_k w_i), and Z'Z becomes the sum of w_i z_i z_i'. One weight for all attributes of a row
leaves them one eigenbasis.

Attributes that the same rows rate share the eigenvectors of Z'Z. An attribute that other rows rate has its own
Z_k'Z_k, around the mean of these rows: evidence and means are computed with it, and of S_k the diagonal in the shared
basis is kept. Of rows like those that were rated it tells the variance on average, where S_k would tell that of each.

The directions of the `rank` largest eigenvalues are kept; what lies outside of their span counts with the mean
eigenvalue of the rest, and never with zero, as that is where unfamiliar text lies.

Shapes: N rows, n attributes, R ratings of each, H hidden size, r rank.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from urm_hf.uncertainty.moments import Moments

WHOLE = 1024  # hidden sizes up to which every direction is kept
RANK = 128  # directions kept of larger ones
ROUNDS = 1000  # of evidence maximisation, at most
LEAST_NOISE = 0.01  # of the mean square of residuals
LEAST_SIGNAL = 0.01  # of the noise: what means may vary by, as the prior has it


@dataclass(frozen=True)
class Posterior:
    """
    The posterior of n linear regressions in one eigenbasis.

    Args:
        center, scale (`np.ndarray`): (H,) each; z = (h - center) / scale.
        basis (`np.ndarray`): (H, r) orthonormal columns.
        offsets (`np.ndarray`): (n, r) mean of z in the basis, of the rows that rate an attribute.
        variances (`np.ndarray`): (n, r) along each of them, in squared units of the ratings.
        rest (`np.ndarray`): (n,) along each direction outside of the basis, same unit.
        intercept (`np.ndarray`): (n,) of the mean rating, same unit.
        weights (`np.ndarray`): (n, r) posterior mean of m_k in the basis, in units of the ratings.
        label_mean (`np.ndarray`): (n,) mean rating where z is 0.
        noise (`np.ndarray`): (n,) variance of one rating around its mean, on average over the ratings, in squared
            units of the ratings: the mean of 1/(beta_k w).
        precision (`np.ndarray`): (n,) alpha_k of the prior.
    """

    center: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
    offsets: np.ndarray
    variances: np.ndarray
    rest: np.ndarray
    intercept: np.ndarray
    weights: np.ndarray
    label_mean: np.ndarray
    noise: np.ndarray
    precision: np.ndarray

    @property
    def rank(self) -> int:
        """How many directions are kept, r."""
        return self.basis.shape[1]

    def epistemic(self, hidden: np.ndarray) -> np.ndarray:
        """
        (N, n) variances of the means of hidden states (N, H), in squared units of the ratings; higher = less known.
        """
        z = (hidden - self.center) / self.scale
        along = z @ self.basis  # (N, r)
        outside = np.maximum((z**2).sum(-1) - (along**2).sum(-1), 0)
        shifted = self.offsets * self.variances
        inside = along**2 @ self.variances.T - 2 * along @ shifted.T + (self.offsets * shifted).sum(-1)
        return np.maximum(inside, 0) + outside[:, None] * self.rest + self.intercept

    def predictive_stds(self, hidden: np.ndarray) -> np.ndarray:
        """(N, n) standard deviations of a rating around [`predict`]: of its noise and of what is not known."""
        return np.sqrt(self.noise + self.epistemic(hidden))

    def predict(self, hidden: np.ndarray) -> np.ndarray:
        """(N, n) posterior means of the ratings of hidden states (N, H)."""
        return self.label_mean + (hidden - self.center) / self.scale @ self.basis @ self.weights.T


def fit_posterior(moments: Moments, rank: int | None = None, attributes: Sequence[str] | None = None) -> Posterior:
    """
    The posterior of hidden states and ratings that were summed up.

    Args:
        moments ([`Moments`]): of all rows.
        rank (`int`, *optional*): directions to keep. By default all of H up to 1024, else 128.
        attributes (`list[str]`, *optional*): names of the n attributes, for errors.

    Raises:
        ValueError: an attribute has fewer than two ratings, or ratings that are all alike; or the hidden states are.
    """
    label_mean, deviations = _label_statistics(moments, attributes)
    mass = moments.mass
    mean, scale, covariance = _standardize(moments)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), vectors[:, ::-1]  # largest first
    hidden_size = len(scale)
    kept = min(rank or (hidden_size if hidden_size <= WHOLE else RANK), hidden_size)
    own_means = moments.hidden / mass[:, None]  # (n, H)
    products = (moments.products - moments.sums[:, None] * own_means) / scale  # sum of w (y - mean) (z - mean)

    found: dict[int, _Regression] = {}
    for group in range(len(moments.squares)):
        scatter, turn = _own_eigenbasis(moments, group, scale, eigenvalues, vectors)
        for k in np.flatnonzero(moments.groups == group).tolist():
            variation = eigenvalues.sum() * mass[k] / moments.ratings[k]
            along = products[k] @ vectors
            found[k] = _regress(scatter, turn, along, deviations[k], moments.ratings[k], variation)
    precision, noise_precision, variances, weights, scatters = (
        np.stack(part) for part in zip(*(found[k] for k in range(len(mass))), strict=True)
    )
    outside = scatters[:, kept:].mean(-1) if kept < hidden_size else np.zeros(len(mass))
    variances, weights = variances[:, :kept], weights[:, :kept]
    offsets = (own_means - mean) / scale @ vectors[:, :kept]
    assert moments.origin is not None
    return Posterior(
        center=moments.origin + mean,
        scale=scale,
        basis=vectors[:, :kept].copy(),
        offsets=offsets,
        variances=variances,
        rest=1 / (precision + noise_precision * outside),
        intercept=1 / (noise_precision * mass),
        weights=weights,
        label_mean=moments.level + label_mean - (offsets * weights).sum(-1),
        noise=moments.inverse_mass / moments.ratings / noise_precision,
        precision=precision,
    )


def _label_statistics(moments: Moments, attributes: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
    """(n,) weighted means, from `moments.level`, and sums of w (y - mean)^2."""
    names = [f"attribute {k}" for k in range(len(moments.ratings))]
    names = names if attributes is None else [repr(name) for name in attributes]
    for name, ratings in zip(names, moments.ratings, strict=True):
        if ratings < 2:
            raise ValueError(f"{name} has {int(ratings)} ratings: a posterior needs two or more.")
    means = moments.sums / moments.mass
    deviations = moments.sums_of_squares - moments.mass * means**2
    for name, deviation, squares in zip(names, deviations, moments.sums_of_squares, strict=True):
        if not deviation > 1e-12 * squares:
            raise ValueError(f"the ratings of {name} are all alike: no posterior can be fitted.")
    return means, deviations


def _standardize(moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    (H,) mean, from `moments.origin`, and scale of hidden states, and the covariance (H, H) of what is standardised: of
    all rows, each counted as often as the average attribute has ratings of it.
    """
    assert moments.origin is not None
    total = moments.mass.sum()
    mean = moments.hidden.sum(0) / total
    covariance = moments.squares[0] * ((moments.groups == 0).sum() / total)  # in place from here on, as it is large
    for group, squares in enumerate(moments.squares[1:], start=1):
        covariance += squares * ((moments.groups == group).sum() / total)
    covariance -= np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    if not std.max() > 1e-6 * np.abs(moments.origin + mean).max():
        raise ValueError("the hidden states of all rated rows are alike: no posterior can be fitted.")
    # a feature that hardly varied must not make whatever varies it look unfamiliar
    scale = np.maximum(std, max(0.01 * float(np.median(std)), 1e-6 * float(std.max())))
    covariance /= scale[:, None]
    covariance /= scale
    return mean, scale, covariance


def _own_eigenbasis(
    moments: Moments, group: int, scale: np.ndarray, eigenvalues: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """
    (H,) eigenvalues of Z_k'Z_k around the mean of the rows that rate the attributes k of a group, and (H, H) its
    eigenvectors in the shared basis. None where all attributes are rated by the same rows, as it is that basis then.
    """
    k = moments.of(group)
    if len(moments.squares) == 1:
        return moments.mass[k] * eigenvalues, None
    scatter = moments.squares[group] - np.outer(moments.hidden[k], moments.hidden[k]) / moments.mass[k]
    scatter /= scale[:, None]
    scatter /= scale
    own, directions = np.linalg.eigh(scatter)
    return np.maximum(own, 0), vectors.T @ directions


class _Regression(NamedTuple):
    """Of one attribute."""

    precision: float  # alpha
    noise_precision: float  # beta
    variances: np.ndarray  # (H,) diagonal of S_k in the shared basis
    weights: np.ndarray  # (H,) posterior mean in it
    scatter: np.ndarray  # (H,) diagonal of Z'Z in it


def _regress(
    scatter: np.ndarray,
    turn: np.ndarray | None,
    products: np.ndarray,
    deviations: float,
    count: float,
    variation: float,
) -> _Regression:
    """
    Args:
        scatter, turn: what [`_own_eigenbasis`] gave.
        products (`np.ndarray`): (H,) Z'(y - mean), in the shared basis.
        deviations, count, variation (`float`): as of [`_maximise_evidence`].
    """
    own = products if turn is None else products @ turn
    alpha, beta = _maximise_evidence(scatter, own, deviations, count, variation)
    variances = 1 / (alpha + beta * scatter)
    weights = beta * own * variances
    if turn is None:
        return _Regression(alpha, beta, variances, weights, scatter)
    return _Regression(alpha, beta, turn**2 @ variances, turn @ weights, turn**2 @ scatter)


def measure_noise(means: np.ndarray, unknown: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """
    (n,) variance of one rating around its mean, by residuals: their mean square, less what is not known of the means.

    Args:
        means (`np.ndarray`): (N, n) of ratings that did not train what predicts.
        unknown (`np.ndarray`): (N, n) variances of these means.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
    """
    given = np.isfinite(ratings).sum(-1)
    squares = np.nansum((ratings - means[..., None]) ** 2, axis=(0, 2)) / given.sum(0)
    return np.maximum(squares - (unknown * given).sum(0) / given.sum(0), LEAST_NOISE * squares)


def fit_batches(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], rank: int | None = None, attributes: Sequence[str] | None = None
) -> Posterior:
    """
    [`fit_posterior`] of batches of hidden states (N, H) and ratings (N, n, R).

    Raises:
        ValueError: there is no batch, or as [`Moments.add`] and [`fit_posterior`] do.
    """
    moments: Moments | None = None
    for hidden, ratings in batches:
        if moments is None:
            moments = Moments(hidden.shape[-1], ratings.shape[1])
        moments.add(hidden, ratings)
    if moments is None:
        raise ValueError("there are no rated rows: no posterior can be fitted.")
    return fit_posterior(moments, rank, attributes)


def _maximise_evidence(
    eigenvalues: np.ndarray, products: np.ndarray, deviations: float, count: float, variation: float
) -> tuple[float, float]:
    """
    alpha and beta of one attribute by MacKay's fixed point, in the eigenbasis of Z'Z.

    Fewer ratings than directions can be met exactly, as if they had no noise. One rating more is counted, whose noise
    is all that ratings vary by (a Gamma prior on beta): of 100 ratings, a hundredth of the variance is noise at least.

    Args:
        eigenvalues (`np.ndarray`): (H,) of Z'Z.
        products (`np.ndarray`): (H,) Z'(y - mean), in the basis.
        deviations (`float`): sum of w (y - mean)^2, above 0.
        count (`float`): ratings.
        variation (`float`): mean of w |z|^2 over all rated rows.
    """
    variance = deviations / count
    alpha, beta = 1 / variance, 1 / variance
    for _ in range(ROUNDS):
        precisions = alpha + beta * eigenvalues
        mean = beta * products / precisions
        known = float((beta * eigenvalues / precisions).sum())  # well-determined parameters, gamma
        residual = deviations - 2 * float(mean @ products) + float(mean**2 @ eigenvalues)
        new_beta = (max(count - known, 0) + 1) / (max(residual, 0) + variance)
        # hidden states that say nothing drive alpha to infinity: it is bounded. The prior's means vary by
        # |z|^2 / alpha, and the noise of weight w is 1 / (beta w)
        most = new_beta * variation / LEAST_SIGNAL
        new_alpha = min(max(known, 1e-12) / max(float(mean @ mean), 1e-12 * variance), most)
        converged = abs(new_alpha / alpha - 1) < 1e-8 and abs(new_beta / beta - 1) < 1e-8
        alpha, beta = new_alpha, new_beta
        if converged:
            break
    return alpha, beta
