"""
The posterior of a trained head, and the intervals that cover: both of the hidden states of the rows it was trained on.

An interval is centred on the posterior's own mean, and its factor is of cross-fitted residuals: each row is predicted
by a posterior of the rows of other prompts. What the head's own means leave of the rows that trained them is smaller
than what they leave of new ones, and a validation part is often too small to read a quantile from.
"""

import logging
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from scipy.special import ndtri

from urm_hf.modeling import URMForRewardModeling
from urm_hf.scores import has_sigma
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import pooled_features
from urm_hf.trainers.encoding import encode_dataset, encoder_for, longest_for
from urm_hf.trainers.rated_rows import plan_rated_rows, read_rated_rows
from urm_hf.uncertainty.conformal import LEVELS, assign_folds, count_needed, fit_interval_factors, measure_coverage
from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.posterior import Posterior, fit_posterior, measure_noise

logger = logging.getLogger(__name__)

ROWS = 1024  # that are summed up at a time


class RatedStates:
    """
    Hidden states of rated rows, read a thousand at a time.

    Args:
        model ([`URMForRewardModeling`]): its sigma weighs the rows, unless it means nothing: regression on draws
            drives it to zero, wherever that may be, and the squared error never trains it.
        hidden (`Features` or `np.ndarray`): (N, H) pooled hidden states of rated conversations.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        prompts (`list`, *optional*): of length N, what rows of one prompt share. By default each row has its own.
        weigh (`bool`, *optional*, defaults to `True`): whether rows count by such a sigma.
        sequences (`list[list[int]]`, *optional*): of length N, the token ids of the rows.
    """

    def __init__(
        self,
        model: URMForRewardModeling,
        hidden: Any,
        ratings: np.ndarray,
        prompts: Sequence[Hashable] | None = None,
        weigh: bool = True,
        sequences: Sequence[Sequence[int]] | None = None,
    ):
        self.sequences = sequences
        self.model, self.hidden, self.ratings = model, hidden, ratings
        self.weighs = weigh and has_sigma(model) and model.config.attribute_loss != "regression"
        self.prompts = range(len(ratings)) if prompts is None else prompts
        self.attributes = list(model.config.attributes)
        self._predicted: dict[int | None, tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.ratings)

    def iter_batches(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The numbers of the rows of a batch, and their hidden states (N, H)."""
        for start in range(0, len(self.ratings), ROWS):
            rows = np.arange(start, min(start + ROWS, len(self.ratings)))
            yield rows, self.hidden[rows]

    @torch.no_grad()
    def weigh(self, hidden: np.ndarray) -> np.ndarray | None:
        """
        The precision of each row's ratings (N,): 1 / the mean over attributes of sigma^2 in units of the labels. None
        where all count alike.
        """
        if not self.weighs:
            return None
        head = self.model.score
        _, stds, _ = head.distribution(torch.from_numpy(np.ascontiguousarray(hidden)))  # (N, n)
        return (1 / (stds / head.label_std.float()).square().mean(-1)).double().cpu().numpy()

    @cached_property
    def folds(self) -> np.ndarray:
        """The fold of each row (N,); rows of one prompt are in one."""
        return assign_folds(self.prompts) if len(self) > 1 else np.zeros(len(self), dtype=int)

    @cached_property
    def moments(self) -> list[Moments]:
        """Those of each fold: the posterior is of their sum, and what predicts a fold is of the others'."""
        folds, n = self.folds, len(self.attributes)
        moments = [Moments(self.model.config.hidden_size, n) for _ in range(int(folds.max()) + 1)]
        for rows, hidden in self.iter_batches():
            weights = self.weigh(hidden)
            for fold in np.unique(folds[rows]):
                mine = folds[rows] == fold
                moments[fold].add(hidden[mine], self.ratings[rows[mine]], None if weights is None else weights[mine])
        return moments

    @torch.no_grad()
    def predict(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean rating of each row (N, n), as the model's own posterior predicts it, and the variance of this mean."""
        means, unknown = [], []
        for _, hidden in self.iter_batches():
            mean, variance = self.model.score.posterior(torch.from_numpy(np.ascontiguousarray(hidden)))
            means.append(mean.double().cpu().numpy())
            unknown.append(variance.double().cpu().numpy())
        return np.concatenate(means), np.concatenate(unknown)

    def predict_in_turn(self, rank: int | None) -> tuple[np.ndarray, np.ndarray]:
        """
        Mean rating of each row (N, n), as a posterior of all other folds predicts it, and the variance of this mean.
        Computed once for a rank.

        Raises:
            ValueError: there is one row alone, or the others do not hold enough to fit one.
        """
        if rank not in self._predicted:
            if len(self.moments) < 2:
                raise ValueError("one row cannot be predicted from others.")
            means, unknown = (np.empty((len(self.ratings), len(self.attributes))) for _ in range(2))
            for fold in range(len(self.moments)):
                others = sum_moments([other for number, other in enumerate(self.moments) if number != fold])
                posterior = fit_posterior(others, rank, self.attributes)
                for rows, hidden in self.iter_batches():
                    mine = self.folds[rows] == fold
                    means[rows[mine]] = posterior.predict(hidden[mine])
                    unknown[rows[mine]] = posterior.epistemic(hidden[mine])
            self._predicted[rank] = means, unknown
        return self._predicted[rank]


def sum_moments(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


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
    try:
        if not len(states):
            raise ValueError("there are no rated rows.")
        posterior = fit_posterior(sum_moments(states.moments), rank, states.attributes)
        factors = None
        if levels:
            means, unknown = states.predict_in_turn(rank)
            # sigma may be wrong about the rows' noise: a factor would mend it where text is familiar, and only there
            posterior = replace(posterior, noise=measure_noise(means, unknown, states.ratings))
            stds = np.sqrt(posterior.noise + unknown)
            factors = fit_interval_factors(means, stds, states.ratings, levels, states.attributes)
    except ValueError as error:
        raise ValueError(f"The posterior: {error}") from error
    put_posterior(states.model, posterior)
    if factors is not None:
        _put_factors(states.model, levels, factors)
    return posterior


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
        ValueError: too few ratings for a level, or the model has no posterior.
    """
    head, config = states.model.score, states.model.config
    if not head.has_posterior:
        raise ValueError("the model has no posterior, whose predictions intervals are built on: fit one first.")
    means, unknown = states.predict_in_turn(config.posterior_rank) if cross else states.predict()
    stds = np.sqrt(head.posterior_noise.double().cpu().numpy() + unknown)
    factors = fit_interval_factors(means, stds, states.ratings, levels, states.attributes)
    before = [measure_coverage(means, stds, states.ratings, float(ndtri((1 + level) / 2))) for level in levels]
    _put_factors(states.model, levels, factors)
    return np.array(before), factors


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
    for name in ("posterior_rank", "interval_factors"):
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
    hidden = features["train"][np.array(dataset["feature"])]
    ratings = np.array(dataset["ratings"], dtype=np.float64)
    prompts = list(dataset["prompt"]) if "prompt" in dataset.column_names else None
    states = RatedStates(model, hidden, ratings, prompts, weigh=trained)
    try:
        _fit_what_can_be(states)
    except ValueError as error:
        if asked:
            raise
        logger.warning("%s The model will not tell what it does not know (`epistemic`).", error)


def _fit_what_can_be(states: RatedStates) -> None:
    """A posterior with intervals of those levels that there are ratings enough for; what is left out is told."""
    fewest = int(np.isfinite(states.ratings).sum((0, 2)).min())
    levels = [level for level in LEVELS if fewest >= count_needed(level)]
    try:
        fit_head_posterior(states, levels=levels)
    except ValueError as error:  # without one of the folds an attribute has too few ratings
        fit_head_posterior(states, levels=())
        logger.warning("%s The model will give no `attribute_intervals`.", error)
        return
    if len(levels) < len(LEVELS):
        first = next(level for level in LEVELS if level not in levels)
        told = "%d ratings of an attribute are too few for intervals of %g and above, which take %d or more."
        logger.warning(told, fewest, first, count_needed(first))


def read_states(
    model: URMForRewardModeling, tokenizer: Any, dataset: Dataset, args: Any, *, name: str = "rated"
) -> RatedStates:
    """
    The hidden states of rated rows, which a trained model's backbone computes or finds in its cache.

    Args:
        model ([`URMForRewardModeling`]): its backbone reads the rows.
        tokenizer (`PreTrainedTokenizerBase`): the model's.
        dataset (`Dataset`): rows as the attribute stage reads them.
        args ([`URMAttributeConfig`]): `max_length`, `truncation`, `on_error`, `output_dir`, `cache_dir`,
            `dataset_num_proc` and `max_tokens_per_batch` are read.
        name (`str`, *optional*, defaults to `"rated"`): what errors call the dataset.

    Raises:
        RowError: rows that cannot be used.
    """
    config = model.config
    attributes = list(config.attributes)
    args.max_length = longest_for(config, args.max_length)
    rated = read_rated_rows(dataset, attributes, config.attribute_scales)
    rated.read_usable()  # an error if no row can be read
    encoded = encode_dataset(
        dataset,
        encoder_for(config, tokenizer, args),
        plan_rated_rows(attributes, config.attribute_scales, rated),
        name=name,
        on_error=args.on_error,
        folder=args.output_dir,
        num_proc=args.dataset_num_proc,
    )
    sequences: Sequence[Sequence[int]] = list(encoded["input_ids"])
    hidden = pooled_features(
        model, sequences, pad_token_id(tokenizer), args.cache_dir, args.max_tokens_per_batch, "Hidden states"
    )
    ratings = np.array(encoded["ratings"], dtype=np.float64)
    return RatedStates(model, hidden, ratings, list(encoded["prompt"]), sequences=sequences)
