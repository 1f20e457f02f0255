"""
What tells how unfamiliar hidden states are: a posterior, members and networks that disagree, and densities.

A measure is a function from hidden states (N, H) to (N,); higher = less known. All are of hidden states of the rows
that trained the members, standardised, and of their mean ratings in units of their spread.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.kernel_approximation import RBFSampler
from sklearn.linear_model import BayesianRidge
from sklearn.metrics import pairwise_distances
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

Measure = Callable[[np.ndarray], np.ndarray]

FEW, HEADS = 5, 20  # small networks
RANK, NEIGHBOUR = 64, 10  # directions of the density; which neighbour's distance counts
WAVES = 1024  # random features of the Gaussian process
PASSES, LEFT_OUT = 50, 0.1  # of dropout


def fit_measures(members: list, hidden: np.ndarray, ratings: np.ndarray, seed: int) -> dict[str, Measure]:
    """All measures by name, of URMs on one frozen backbone, hidden states (N, H) and ratings (N, n, R)."""
    center, scale = hidden.mean(0), hidden.std(0) + 1e-6
    means = np.nanmean(ratings, axis=-1)
    z, y = (hidden - center) / scale, np.nan_to_num((means - np.nanmean(means, 0)) / np.nanstd(means, 0))
    networks = fit_networks(z, y)
    of_standardised = {
        f"{FEW} networks": lambda z: measure_disagreement(networks[:FEW], z),
        f"{HEADS} networks": lambda z: measure_disagreement(networks, z),
        f"dropout, {PASSES} passes": lambda z: measure_dropout(networks[0], z, seed),
        "random-feature Gaussian process": fit_gaussian_process(z, y, seed),
        f"distance to neighbour {NEIGHBOUR}": fit_neighbours(z),
        "Mahalanobis": fit_mahalanobis(z),
    }
    return {
        "posterior, one model": lambda states: measure_posterior(members[0], states),
        f"{len(members)} members": lambda states: measure_members(members, states),
        **{name: standardised(measure, center, scale) for name, measure in of_standardised.items()},
        "sigma^2, one model": lambda states: measure_sigma(members[0], states),
    }


def standardised(measure: Measure, center: np.ndarray, scale: np.ndarray) -> Measure:
    return lambda states: measure((states - center) / scale)


@torch.no_grad()
def measure_posterior(model, states: np.ndarray) -> np.ndarray:
    return model.score.posterior(torch.from_numpy(states))[1].sum(-1).numpy()


@torch.no_grad()
def measure_members(members: list, states: np.ndarray) -> np.ndarray:
    means = torch.stack([member.score.distribution(torch.from_numpy(states))[0] for member in members])
    return means.var(0, correction=0).sum(-1).numpy()


@torch.no_grad()
def measure_sigma(model, states: np.ndarray) -> np.ndarray:
    return model.score.distribution(torch.from_numpy(states))[1].square().sum(-1).numpy()


def fit_networks(z: np.ndarray, y: np.ndarray) -> list[MLPRegressor]:
    """One layer of 64 each, from other initial weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 passes, as of a small head
        networks = [
            MLPRegressor(hidden_layer_sizes=(64,), alpha=1e-2, max_iter=30, random_state=seed) for seed in range(HEADS)
        ]
        return [network.fit(z, y) for network in networks]


def measure_disagreement(networks: list[MLPRegressor], z: np.ndarray) -> np.ndarray:
    predictions = [network.predict(z).reshape(len(z), -1) for network in networks]
    return np.var(predictions, axis=0).sum(-1)


def measure_dropout(network: MLPRegressor, z: np.ndarray, seed: int) -> np.ndarray:
    """A tenth of the network's input and of its layer left out at random, 50 times (Gal & Ghahramani, 2016)."""
    rng = np.random.default_rng(seed)
    (first_weights, last_weights), (first_bias, last_bias) = network.coefs_, network.intercepts_
    passes = []
    for _ in range(PASSES):
        kept = z * (rng.random(z.shape) > LEFT_OUT) / (1 - LEFT_OUT)
        layer = np.maximum(kept @ first_weights + first_bias, 0)
        kept = layer * (rng.random(layer.shape) > LEFT_OUT) / (1 - LEFT_OUT)
        passes.append(kept @ last_weights + last_bias)
    return np.var(passes, axis=0).sum(-1)


def fit_gaussian_process(z: np.ndarray, y: np.ndarray, seed: int) -> Measure:
    """
    The variance that a Gaussian process leaves, its kernel approximated by random features (Rahimi & Recht, 2007): the
    last layer of SNGP (Liu et al., 2020), whose body would be trained with spectral normalisation. The kernel is as
    wide as two rows are apart in the median.
    """
    rows = np.random.default_rng(seed).permutation(len(z))[:1000]
    width = np.median(pairwise_distances(z[rows])[np.triu_indices(len(rows), 1)])
    waves = RBFSampler(gamma=1 / (2 * width**2), n_components=WAVES, random_state=seed).fit(z)
    features = waves.transform(z)
    regressions = [BayesianRidge().fit(features, column) for column in y.T]

    def measure(z: np.ndarray) -> np.ndarray:
        new = waves.transform(z)
        return sum(fit.predict(new, return_std=True)[1] ** 2 - 1 / fit.alpha_ for fit in regressions)

    return measure


def fit_neighbours(z: np.ndarray) -> Measure:
    neighbours = NearestNeighbors(n_neighbors=min(NEIGHBOUR, len(z))).fit(z)
    return lambda z: neighbours.kneighbors(z)[0][:, -1]


def fit_mahalanobis(z: np.ndarray) -> Measure:
    """A Gaussian density of so many directions and an isotropic rest (Lee et al., 2018)."""
    pca = PCA(min(RANK, *z.shape)).fit(z)
    rest = max((z.var(0).sum() - pca.explained_variance_.sum()) / (z.shape[1] - pca.n_components_), 1e-9)

    def measure(z: np.ndarray) -> np.ndarray:
        inside = pca.transform(z)
        outside = np.maximum(((z - pca.mean_) ** 2).sum(-1) - (inside**2).sum(-1), 0)
        return (inside**2 / pca.explained_variance_).sum(-1) + outside / rest

    return measure
