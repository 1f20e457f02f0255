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

All attributes share the eigenvectors of Z'Z. Those of the `rank` largest eigenvalues are kept; what lies outside of
their span counts with the mean eigenvalue of the rest, and never with zero, as that is where unfamiliar text lies.

Shapes: N rows, n attributes, R ratings of each, H hidden size, r rank.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.uncertainty.moments import Moments

WHOLE = 1024  # hidden sizes up to which every direction is kept
RANK = 128  # directions kept of larger ones
ROUNDS = 1000  # of evidence maximisation, at most
LEAST_SIGNAL = 0.01  # of the noise: what means may vary by, as the prior has it


@dataclass(frozen=True)
class Posterior:
    """
    The posterior of n linear regressions in one eigenbasis.

    Args:
        center, scale (`np.ndarray`): (H,) each; z = (h - center) / scale.
        basis (`np.ndarray`): (H, r) orthonormal columns.
        variances (`np.ndarray`): (n, r) along each of them, in squared units of the ratings.
        rest (`np.ndarray`): (n,) along each direction outside of the basis, same unit.
        intercept (`np.ndarray`): (n,) of the mean rating, same unit.
        weights (`np.ndarray`): (n, r) posterior mean of m_k in the basis, in units of the ratings.
        label_mean (`np.ndarray`): (n,) mean rating.
        noise (`np.ndarray`): (n,) variance 1/beta_k of one rating around its mean, in a row of weight 1, in squared
            units of the ratings.
        precision (`np.ndarray`): (n,) alpha_k of the prior.
    """

    center: np.ndarray
    scale: np.ndarray
    basis: np.ndarray
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
        inside = (z @ self.basis) ** 2  # (N, r)
        outside = np.maximum((z**2).sum(-1) - inside.sum(-1), 0)
        return inside @ self.variances.T + outside[:, None] * self.rest + self.intercept

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
        ValueError: an attribute has fewer than two ratings, or ratings that are all alike.
    """
    origin, n, count = moments.origin, len(moments.ratings), moments.count
    names = [f"attribute {k}" for k in range(n)] if attributes is None else [repr(name) for name in attributes]
    for name, ratings in zip(names, moments.ratings, strict=True):
        if ratings < 2:
            raise ValueError(f"{name} has {int(ratings)} ratings: a posterior needs two or more.")
    mass = moments.mass
    label_mean = moments.sums / mass
    deviations = moments.sums_of_squares - mass * label_mean**2  # sum of w (y - their mean)^2
    for name, deviation, squares in zip(names, deviations, moments.sums_of_squares, strict=True):
        if not deviation > 1e-12 * squares:
            raise ValueError(f"the ratings of {name} are all alike: no posterior can be fitted.")
    assert origin is not None
    hidden_size = len(origin)
    mean = moments.hidden / count
    covariance = moments.squares / count  # (H, H); in place from here on, as it is large
    covariance -= np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    # a feature that hardly varied must not make whatever varies it look unfamiliar
    scale = np.maximum(std, max(0.01 * float(np.median(std)), 1e-6))
    covariance /= scale[:, None]
    covariance /= scale
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), vectors[:, ::-1]  # largest first; of one row of weight 1
    kept = min(rank or (hidden_size if hidden_size <= WHOLE else RANK), hidden_size)

    # sum of w (y - their mean) z, in the basis: (n, H)
    products = moments.products - mass[:, None] * np.outer(label_mean, mean)
    products -= label_mean[:, None] * (moments.hidden_of - mass[:, None] * mean)
    products = products / scale @ vectors
    found = [
        _maximise_evidence(eigenvalues * mass[k], products[k], deviations[k], moments.ratings[k]) for k in range(n)
    ]
    precision, noise_precision = (np.array(values) for values in zip(*found, strict=True))
    precisions = precision[:, None] + noise_precision[:, None] * mass[:, None] * eigenvalues  # (n, H)
    outside = eigenvalues[kept:].mean() if kept < hidden_size else 0.0
    return Posterior(
        center=origin + mean,
        scale=scale,
        basis=vectors[:, :kept].copy(),
        variances=1 / precisions[:, :kept],
        rest=1 / (precision + noise_precision * mass * outside),
        intercept=1 / (noise_precision * mass),
        weights=(noise_precision[:, None] * products / precisions)[:, :kept],
        label_mean=label_mean,
        noise=1 / noise_precision,
        precision=precision,
    )


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
    eigenvalues: np.ndarray, products: np.ndarray, deviations: float, count: float
) -> tuple[float, float]:
    """
    alpha and beta of one attribute by MacKay's fixed point, in the eigenbasis of Z'Z.

    Args:
        eigenvalues (`np.ndarray`): (H,) of Z'Z.
        products (`np.ndarray`): (H,) Z'(y - mean), in the basis.
        deviations (`float`): sum of w (y - mean)^2, above 0.
        count (`float`): ratings.
    """
    variation = eigenvalues.sum() / count  # mean of w |z|^2 over the ratings
    alpha, beta = 1.0, count / deviations
    for _ in range(ROUNDS):
        precisions = alpha + beta * eigenvalues
        mean = beta * products / precisions
        known = float((beta * eigenvalues / precisions).sum())  # well-determined parameters, gamma
        residual = deviations - 2 * float(mean @ products) + float(mean**2 @ eigenvalues)
        # hidden states that say nothing drive alpha to infinity, interpolation drives beta there: both are bounded
        new_beta = min(max(count - known, 1e-6 * count) / max(residual, 1e-9 * deviations), 1e9 * count / deviations)
        # of alpha: the prior's means vary by |z|^2 / alpha, and the noise of weight w is 1 / (beta w)
        most = new_beta * variation / LEAST_SIGNAL
        new_alpha = min(max(known, 1e-12) / max(float(mean @ mean), 1e-12 * deviations / count), most)
        converged = abs(new_alpha / alpha - 1) < 1e-8 and abs(new_beta / beta - 1) < 1e-8
        alpha, beta = new_alpha, new_beta
        if converged:
            break
    return alpha, beta
