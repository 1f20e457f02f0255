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

Ratings of one text by several people, and of several answers to one prompt, say less than as many ratings of texts
that have nothing in common: what a linear mean of hidden states leaves unexplained is common to them. Evidence takes
them for independent and trusts them too much. Here each counts for a share of a rating: N_k, Z'Z and Z'(y - mean) are
multiplied by it, which makes S_k a generalised posterior (Grünwald & van Ommen, 2017, Bayesian Analysis 12(4),
1069-1103, doi:10.1214/17-BA1085). `choose_shares` takes the largest that predicts ratings of other prompts as well as
any.

Attributes that the same rows rate share the eigenvectors of Z'Z. An attribute that other rows rate has its own
Z_k'Z_k, around the mean of these rows. Evidence and means are computed with it, and S_k, which is not diagonal in the
shared basis then, is kept as an r x r matrix.

The directions of the `rank` largest eigenvalues are kept; what lies outside of their span counts with the mean
eigenvalue of the rest, and never with zero, as that is where unfamiliar text lies.

Shapes: N rows, n attributes, R ratings of each, H hidden size, r rank.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from urm_hf.uncertainty.conformal import number_groups
from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.spectrum import Spectrum, diagonalize

WHOLE = 1024  # hidden sizes up to which every direction is kept
RANK = 128  # directions kept of larger ones
RANK_OF_MATRICES = 256  # at most, where S_k is a matrix
ROUNDS = 1000  # of evidence maximisation, at most
SHARES = tuple(2 ** (-step / 2) for step in range(9))  # of a rating, that it may count for
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
        variances (`np.ndarray`): (n, r) along each of them, in squared units of the ratings; or (n, r, r), S_k, where
            attributes are rated by different rows.
        rest (`np.ndarray`): (n,) along each direction outside of the basis, same unit; 0 where there is none.
        intercept (`np.ndarray`): (n,) of the mean rating, same unit.
        weights (`np.ndarray`): (n, r) posterior mean of m_k in the basis, in units of the ratings.
        label_mean (`np.ndarray`): (n,) mean rating where z is 0.
        noise (`np.ndarray`): (n,) variance of one rating around its mean, on average over the ratings, in squared
            units of the ratings: the mean of 1/(beta_k w).
        precision (`np.ndarray`): (n,) alpha_k of the prior.
        share (`np.ndarray`): (n,) of what they say that ratings count for.
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
    share: np.ndarray

    @property
    def rank(self) -> int:
        """How many directions are kept, r."""
        return self.basis.shape[1]

    def project(self, hidden: np.ndarray) -> np.ndarray:
        """(N, r + 1) of hidden states (N, H): z in the basis, and the length of what lies outside of it."""
        z = (hidden - self.center) / self.scale
        along = z @ self.basis
        outside = np.sqrt(np.maximum((z**2).sum(-1) - (along**2).sum(-1), 0))
        return np.concatenate([along, outside[:, None]], axis=-1)

    def epistemic(self, hidden: np.ndarray) -> np.ndarray:
        """
        (N, n) variances of the means of hidden states (N, H), in squared units of the ratings; higher = less known.
        """
        return self.epistemic_of(self.project(hidden))

    def epistemic_of(self, features: np.ndarray) -> np.ndarray:
        """[`epistemic`] of what [`project`] gave."""
        along, outside = features[:, :-1], features[:, -1:]
        inside = np.empty((len(along), len(self.offsets)))
        for k, (offset, variances) in enumerate(zip(self.offsets, self.variances, strict=True)):
            inside[:, k] = quadratic_form(along - offset, variances)
        return inside + outside**2 * self.rest + self.intercept

    def predictive_stds(self, hidden: np.ndarray) -> np.ndarray:
        """(N, n) standard deviations of a rating around [`predict`]: of its noise and of what is not known."""
        return np.sqrt(self.noise + self.epistemic(hidden))

    def predict(self, hidden: np.ndarray) -> np.ndarray:
        """(N, n) posterior means of the ratings of hidden states (N, H)."""
        return self.predict_of(self.project(hidden))

    def predict_of(self, features: np.ndarray) -> np.ndarray:
        """[`predict`] of what [`project`] gave."""
        return self.label_mean + features[:, :-1] @ self.weights.T


def quadratic_form(vectors: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """(N,) v'Sv of vectors (N, r), where S is diagonal (r,) or a matrix (r, r)."""
    if variances.ndim == 1:
        return vectors**2 @ variances
    return np.maximum(((vectors @ variances) * vectors).sum(-1), 0)


def fit_posterior(
    rated: Moments | Spectrum,
    rank: int | None = None,
    attributes: Sequence[str] | None = None,
    share: float | np.ndarray = 1.0,
) -> Posterior:
    """
    The posterior of hidden states and ratings that were summed up.

    Args:
        rated ([`Moments`] or [`Spectrum`]): of all rows.
        rank (`int`, *optional*): directions to keep. By default all of H up to 1024, else 128; where S_k is a matrix,
            at most 256.
        attributes (`list[str]`, *optional*): names of the n attributes, for errors.
        share (`float` or `np.ndarray`, *optional*, defaults to 1.0): of a rating, that each counts for; (n,) or one.

    Raises:
        ValueError: `rank` is below 1, or as [`diagonalize`] does.
    """
    if rank is not None and rank < 1:
        raise ValueError(f"`rank` must be 1 or more, got {rank}.")
    rows = rated if isinstance(rated, Spectrum) else diagonalize(rated, attributes)
    n, hidden_size = rows.offsets.shape
    usual = hidden_size if hidden_size <= WHOLE else RANK
    kept = min(rank or (usual if rows.turns[0] is None else min(usual, RANK_OF_MATRICES)), hidden_size)
    shares = np.broadcast_to(share, (n,)).astype(float)
    found = [_regress(rows, k, shares[k], kept) for k in range(n)]
    precision, noise_precision, variances, weights, scatters = (np.stack(part) for part in zip(*found, strict=True))
    rest = np.zeros(n)  # where nothing is left out, of what is rounding alone
    if kept < hidden_size:
        rest = 1 / (precision + noise_precision * scatters[:, kept:].mean(-1))
    offsets = rows.offsets[:, :kept]
    return Posterior(
        center=rows.center,
        scale=rows.scale,
        basis=rows.vectors[:, :kept].copy(),
        offsets=offsets,
        variances=variances,
        rest=rest,
        intercept=1 / (noise_precision * shares * rows.mass),
        weights=weights,
        label_mean=rows.label_mean - (offsets * weights).sum(-1),
        noise=rows.inverse_weight / noise_precision,
        precision=precision,
        share=shares,
    )


class _Regression(NamedTuple):
    """Of one attribute, in the shared basis."""

    precision: float  # alpha
    noise_precision: float  # beta
    variances: np.ndarray  # (r,) or (r, r) S_k along the directions that are kept
    weights: np.ndarray  # (r,) posterior mean along them
    scatter: np.ndarray  # (H,) diagonal of Z_k'Z_k, times the share that ratings count for


def _regress(rows: Spectrum, k: int, share: float, kept: int) -> _Regression:
    """Attribute k, each of whose ratings counts for a share of one."""
    scatter, products, turn = share * rows.scatters[k], share * rows.products[k], rows.turns[k]
    variation = rows.variance * rows.mass[k] / rows.ratings[k]
    alpha, beta = _maximise_evidence(scatter, products, share * rows.deviations[k], share * rows.ratings[k], variation)
    variances = 1 / (alpha + beta * scatter)
    weights = beta * products * variances
    if turn is None:
        return _Regression(alpha, beta, variances[:kept], weights[:kept], scatter)
    inside = turn[:kept]
    return _Regression(alpha, beta, inside * variances @ inside.T, inside @ weights, turn**2 @ scatter)


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


def choose_shares(
    predictions: Mapping[float, tuple[np.ndarray, np.ndarray]],
    ratings: np.ndarray,
    prompts: Sequence[Hashable] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """
    The share that ratings should count for, by the likelihood of ratings that did not train what predicts them.

    It is the largest that predicts no worse than the best one by more than a standard error of their difference,
    prompts being what is drawn. Where there is little to learn all shares predict alike, and which one is best is
    chance: a smaller one, which calls everything less known, takes evidence (the rule of one standard error: Breiman,
    Friedman, Olshen & Stone, 1984, Classification and Regression Trees, section 3.4.3).

    Args:
        predictions (`dict[float, tuple]`): for each share, means of ratings and the variances of these means, (N, n)
            each, of a posterior of other rows.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        prompts (`list`, *optional*): of length N, what rows of one prompt share. By default, and where all are of one
            prompt, each row has its own.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: for each attribute (n,), the share, and the noise of a rating beside it.
    """
    shares = sorted(predictions, reverse=True)
    noises = np.array([measure_noise(*predictions[share], ratings) for share in shares])  # (S, n)
    losses = np.array([_losses(*predictions[s], noise, ratings) for s, noise in zip(shares, noises, strict=True)])
    given = np.isfinite(ratings).sum(-1)  # (N, n)
    best = np.argmin(losses.sum(1), axis=0)  # (n,)
    gaps = losses - np.take_along_axis(losses, best[None, None], axis=0)  # (S, N, n)
    chosen = np.argmax(
        gaps.sum(1) <= _standard_errors(gaps, given, prompts), axis=0
    )  # the first, which is the largest
    return np.array(shares)[chosen], noises[chosen, np.arange(len(chosen))]


def _losses(means: np.ndarray, unknown: np.ndarray, noise: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """(N, n) negative log-likelihood of a row's ratings, twice it and without its constant; 0 where there are none."""
    variances = (noise + unknown)[..., None]  # (N, n, 1)
    return np.nansum(np.log(variances) + (ratings - means[..., None]) ** 2 / variances, axis=-1)


def _standard_errors(gaps: np.ndarray, given: np.ndarray, prompts: Sequence[Hashable] | None) -> np.ndarray:
    """(S, n) of the sums of gaps (S, N, n) over rows with so many ratings (N, n), where prompts are what is drawn."""
    numbers = number_groups(range(gaps.shape[1]) if prompts is None else prompts)
    centred = gaps - given * (gaps.sum(1, keepdims=True) / given.sum(0))  # a prompt with more ratings has more to sum
    count = int(numbers.max()) + 1
    sums = np.zeros((count, len(gaps), gaps.shape[-1]))
    np.add.at(sums, numbers, centred.swapaxes(0, 1))
    return np.sqrt((sums**2).sum(0) * (count / max(count - 1, 1)))


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
