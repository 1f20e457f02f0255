"""
Rated rows in the eigenbasis of their standardised hidden states: all that a posterior is fitted to.

Shapes: n attributes, H hidden size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.uncertainty.moments import Moments


@dataclass(frozen=True)
class Spectrum:
    """
    Args:
        center, scale (`np.ndarray`): (H,) each; z = (h - center) / scale.
        vectors (`np.ndarray`): (H, H) eigenvectors of the covariance of z, of the largest eigenvalue first.
        variance (`float`): mean of |z|^2.
        offsets (`np.ndarray`): (n, H) mean of z along them, of the rows that rate an attribute.
        ratings, mass (`np.ndarray`): (n,) each, number and sum of weights of the ratings.
        inverse_weight (`np.ndarray`): (n,) mean of 1 / weight.
        label_mean (`np.ndarray`): (n,) mean rating, by weight.
        deviations (`np.ndarray`): (n,) sum of w (y - mean)^2.
        scatters (`list[np.ndarray]`): for each attribute (H,), eigenvalues of Z_k'Z_k around the mean of its rows.
        products (`list[np.ndarray]`): for each attribute (H,), Z_k'(y - mean) along its eigenvectors.
        turns (`list[np.ndarray | None]`): for each attribute (H, H), these eigenvectors along `vectors`; None where
            all attributes are rated by the same rows, as it is the identity then.
    """

    center: np.ndarray
    scale: np.ndarray
    vectors: np.ndarray
    variance: float
    offsets: np.ndarray
    ratings: np.ndarray
    mass: np.ndarray
    inverse_weight: np.ndarray
    label_mean: np.ndarray
    deviations: np.ndarray
    scatters: list[np.ndarray]
    products: list[np.ndarray]
    turns: list[np.ndarray | None]


def diagonalize(moments: Moments, attributes: Sequence[str] | None = None) -> Spectrum:
    """
    Args:
        moments ([`Moments`]): of all rows.
        attributes (`list[str]`, *optional*): names of the n attributes, for errors.

    Raises:
        ValueError: an attribute has fewer than two ratings, or ratings that are all alike; or the hidden states are.
    """
    label_mean, deviations = _label_statistics(moments, attributes)
    assert moments.origin is not None
    mean, scale, covariance = _standardize(moments, moments.origin)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = np.maximum(eigenvalues[::-1], 0), np.ascontiguousarray(vectors[:, ::-1])
    own_means = moments.hidden / moments.mass[:, None]  # (n, H)
    products = (moments.products - moments.sums[:, None] * own_means) / scale @ vectors
    groups = [_diagonalize_group(moments, g, scale, eigenvalues, vectors) for g in range(len(moments.squares))]
    scatters, turns = ([part[group] for group in moments.groups] for part in zip(*groups, strict=True))
    return Spectrum(
        center=moments.origin + mean,
        scale=scale,
        vectors=vectors,
        variance=float(eigenvalues.sum()),
        offsets=(own_means - mean) / scale @ vectors,
        ratings=moments.ratings,
        mass=moments.mass,
        inverse_weight=moments.inverse_mass / moments.ratings,
        label_mean=moments.level + label_mean,
        deviations=deviations,
        scatters=scatters,
        products=[row if turn is None else row @ turn for row, turn in zip(products, turns, strict=True)],
        turns=turns,
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
    for k, (name, deviation) in enumerate(zip(names, deviations, strict=True)):
        if not deviation > 1e-12 * moments.sums_of_squares[k]:
            raise ValueError(
                f"the ratings of {name} are all alike ({moments.level[k] + means[k]:g}): there is nothing to learn "
                f"from them, and no posterior can be fitted. Train without {name}, or rate rows in which it varies."
            )
    return means, deviations


def _standardize(moments: Moments, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """
    (H,) mean, from `origin`, and scale of hidden states, and the covariance (H, H) of what is standardised: of all
    rows, each counted as often as the average attribute has ratings of it.
    """
    total = moments.mass.sum()
    mean = moments.hidden.sum(0) / total
    covariance = moments.squares[0] * ((moments.groups == 0).sum() / total)  # in place from here on, as it is large
    for group, squares in enumerate(moments.squares[1:], start=1):
        covariance += squares * ((moments.groups == group).sum() / total)
    covariance -= np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    if not std.max() > 1e-6 * np.abs(origin + mean).max():
        raise ValueError("the hidden states of all rated rows are alike: no posterior can be fitted.")
    # a feature that hardly varied must not make whatever varies it look unfamiliar
    scale = np.maximum(std, max(0.01 * float(np.median(std)), 1e-6 * float(std.max())))
    covariance /= scale[:, None]
    covariance /= scale
    return mean, scale, covariance


def _diagonalize_group(
    moments: Moments, group: int, scale: np.ndarray, eigenvalues: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None]:
    """(H,) eigenvalues of Z_k'Z_k of the attributes k of a group, and (H, H) its eigenvectors in the shared basis."""
    k = moments.of(group)
    if len(moments.squares) == 1:
        return moments.mass[k] * eigenvalues, None
    scatter = moments.squares[group] - np.outer(moments.hidden[k], moments.hidden[k]) / moments.mass[k]
    scatter /= scale[:, None]
    scatter /= scale
    own, directions = np.linalg.eigh(scatter)
    return np.maximum(own, 0), vectors.T @ directions
