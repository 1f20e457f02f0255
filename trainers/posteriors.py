"""
The posterior of a trained head, and the intervals that cover: both of the hidden states of the rows it was trained on.

An interval is centred on the posterior's own mean, and its factor is of cross-fitted residuals: each row is predicted
by a posterior of the rows of other prompts. What the head's own means leave of the rows that trained them is smaller
than what they leave of new ones, and a validation part is often too small to read a quantile from.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import ndtri

from urm_hf.modeling import URMForRewardModeling
from urm_hf.modeling.configuration_urm import POSTERIOR_FIELDS
from urm_hf.trainers.rated_states import CrossFit, RatedStates, sum_moments
from urm_hf.uncertainty.conformal import LEVELS, count_groups, count_needed, fit_interval_factors, measure_coverage
from urm_hf.uncertainty.posterior import Posterior, fit_posterior

logger = logging.getLogger(__name__)


def fit_head_posterior(states: RatedStates, rank: int | None = None, levels: Sequence[float] = LEVELS) -> Posterior:
    """
    Fits the posterior over a model's means and puts it into the head, with the factors of intervals that cover.

    Args:
        states ([`RatedStates`]): of the rows that the model was trained on. Its head gets the posterior, its config
            the factors.
        rank (`int`, *optional*): directions to keep, see [`fit_posterior`].
        levels (`list[float]`, *optional*): shares of ratings that intervals are to cover; none fits no factors.

    Returns:
        [`Posterior`]: what was fitted, in float64.

    Raises:
        ValueError: an attribute has fewer than two ratings, or ratings that are all alike; or too few for a level.
    """
    factors = None
    try:
        if not len(states):
            raise ValueError("there are no rated rows.")
        moments = sum_moments(states.moments)
        if crossed := _cross_fit_if_possible(states, rank, levels):
            posterior = fit_posterior(moments, rank, states.attributes, crossed.shares)
            # sigma may be wrong about the rows' noise: a factor would mend it where text is familiar, and only there
            posterior = replace(posterior, noise=crossed.noise)
            stds = np.sqrt(crossed.noise + crossed.unknown)
            factors = _fit_factors(states, crossed.means, stds, levels) if levels else None
        else:
            posterior = fit_posterior(moments, rank, states.attributes)
    except ValueError as error:
        raise ValueError(f"The posterior: {error}") from error
    put_posterior(states.model, posterior)
    if factors is not None:
        _put_factors(states.model, levels, factors)
    return posterior


def _cross_fit_if_possible(states: RatedStates, rank: int | None, levels: Sequence[float]) -> CrossFit | None:
    """None where the rows of other prompts do not hold enough, and no interval needs them to."""
    try:
        return states.cross_fit(rank)
    except ValueError:
        if levels:
            raise
        return None


def fit_head_intervals(states: RatedStates, levels: Sequence[float] = LEVELS, *, cross: bool = True) -> Any:
    """
    The factors of a calibrated model's intervals, which go into its config. The posterior stays as it is.

    Args:
        states ([`RatedStates`]): of a model with a posterior.
        levels (`list[float]`, *optional*): shares of ratings that intervals are to cover.
        cross (`bool`, *optional*, defaults to `True`): whether the model was trained on these rows. Each is then
            predicted by a posterior of the rows of other prompts; else by the model's own.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: for each level and attribute (L, n), the share of these ratings that a
        Gaussian's interval held, and the factor that replaces it.

    Raises:
        ValueError: ratings of too few prompts for a level, or the model has no posterior.
    """
    head, config = states.model.score, states.model.config
    if not head.has_posterior:
        raise ValueError("the model has no posterior, whose predictions intervals are built on: fit one first.")
    means, unknown = states.cross_fit(config.posterior_rank)[2:] if cross else states.predict()
    stds = np.sqrt(head.posterior_noise.double().cpu().numpy() + unknown)
    factors = _fit_factors(states, means, stds, levels)
    means, stds, ratings = states.repeat(means), states.repeat(stds), states.repeat(states.ratings)
    before = [measure_coverage(means, stds, ratings, float(ndtri((1 + level) / 2))) for level in levels]
    _put_factors(states.model, levels, factors)
    return np.array(before), factors


def _fit_factors(states: RatedStates, means: np.ndarray, stds: np.ndarray, levels: Sequence[float]) -> np.ndarray:
    """(L, n) of what was predicted of each row, which counts as often as its weight says."""
    means, stds, ratings, prompts = map(states.repeat, (means, stds, states.ratings, states.prompts))
    return fit_interval_factors(means, stds, ratings, levels, states.attributes, prompts)


def put_posterior(model: URMForRewardModeling, posterior: Posterior) -> None:
    """The posterior as the head's; intervals of a former one are forgotten."""
    names = ("center", "scale", "basis", "offsets", "variances", "rest", "intercept", "weights", "label_mean", "noise")
    limits = np.finfo(np.float32)
    for attribute, noise in zip(model.config.attributes, posterior.noise, strict=True):
        if not limits.tiny < noise < limits.max:
            raise ValueError(
                f"The posterior: the ratings of {attribute!r} vary by {noise**0.5:.2g}, of which the square is not a "
                "number of 32 bits: give them on another scale."
            )
    model.score.set_posterior(*(torch.from_numpy(getattr(posterior, name)) for name in names))
    _tell_config(model)


def _put_factors(model: URMForRewardModeling, levels: Sequence[float], factors: np.ndarray) -> None:
    model.score.config.set_interval_factors(levels, factors.tolist())
    _tell_config(model)


def _tell_config(model: URMForRewardModeling) -> None:
    """What the head's config says, in the model's, which is another under an adapter: peft copies a head with it."""
    for name in POSTERIOR_FIELDS:
        setattr(model.config, name, getattr(model.score.config, name))


def fit_on_cached(
    model: URMForRewardModeling,
    dataset: Dataset,
    features: Mapping[str, Any],
    asked: bool | None,
    trained: bool = True,
) -> None:
    """
    The posterior of a frozen backbone's hidden states.

    Args:
        model ([`URMForRewardModeling`]): its head gets the posterior.
        dataset (`Dataset`): with `feature`, an index of hidden states, `ratings` and, where they are known, `prompt`.
        features (`dict[str, Features]`): hidden states; those of "train" are read.
        asked (`bool`, *optional*): False fits none; None, the default of a training, says why there is none, which
            True makes an error.
        trained (`bool`, *optional*, defaults to `True`): whether the head's sigma may weigh rows.

    Raises:
        ValueError: `asked`, and there is nothing to fit it on.
    """
    if asked is False:
        return
    weights = np.array(dataset["weight"], dtype=np.float64) if "weight" in dataset.column_names else None
    if weights is not None and not weights.all():  # rows of weight 0 teach nothing
        dataset, weights = dataset.select(np.flatnonzero(weights)), weights[weights > 0]
    hidden = features["train"][np.array(dataset["feature"])]
    ratings = np.array(dataset["ratings"], dtype=np.float64)
    prompts = list(dataset["prompt"]) if "prompt" in dataset.column_names else None
    states = RatedStates(model, hidden, ratings, prompts, weigh=trained, weights=weights)
    try:
        fit_what_can_be(states)
    except ValueError as error:
        if asked:
            raise
        logger.warning("%s The model will not tell what it does not know (`epistemic`).", error)


def fit_what_can_be(states: RatedStates, rank: int | None = None) -> Posterior:
    """
    [`fit_head_posterior`] with intervals of those levels that there are ratings enough for; what is left out is told.
    """
    fewest = min(count_groups(states.ratings, list(states.prompts)))
    levels = [level for level in LEVELS if fewest >= count_needed(level)]
    try:
        posterior = fit_head_posterior(states, rank, levels)
    except ValueError as error:  # without one of the folds an attribute has too few ratings
        posterior = fit_head_posterior(states, rank, ())
        logger.warning("%s The model will give no `attribute_intervals`.", error)
        return posterior
    if len(levels) < len(LEVELS):
        first = next(level for level in LEVELS if level not in levels)
        told = "Ratings of %d prompts are too few for intervals of %g and above, which take %d or more."
        logger.warning(told, fewest, first, count_needed(first))
    return posterior
