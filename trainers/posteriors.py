"""The posterior of a trained head: fitted on the hidden states of the rows that it was trained on."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from datasets import Dataset

from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import pooled_features
from urm_hf.trainers.encoding import encode_dataset, encoder_for, longest_for
from urm_hf.trainers.rated_rows import plan_rated_rows, read_rated_rows
from urm_hf.uncertainty.posterior import Posterior, fit_batches

logger = logging.getLogger(__name__)

ROWS = 1024  # that are summed up at a time


def set_posterior(model: URMForRewardModeling, hidden: Any, ratings: np.ndarray, rank: int | None = None) -> Posterior:
    """
    Fits the posterior over a model's means and puts it into the head.

    Args:
        model ([`URMForRewardModeling`]): its `score` gets it.
        hidden (`Features` or `np.ndarray`): (N, H) pooled hidden states of rated conversations.
        ratings (`np.ndarray`): (N, n, R), NaN where there is none.
        rank (`int`, *optional*): directions to keep, see [`fit_posterior`].

    Returns:
        [`Posterior`]: what was fitted, in float64.

    Raises:
        ValueError: an attribute has fewer than two ratings, or ratings that are all alike.
    """

    def read_batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(ratings), ROWS):
            yield hidden[np.arange(start, min(start + ROWS, len(ratings)))], ratings[start : start + ROWS]

    try:
        posterior = fit_batches(read_batches(), rank, model.config.attributes)
    except ValueError as error:
        raise ValueError(f"The posterior: {error}") from error
    parts = (posterior.center, posterior.scale, posterior.basis, posterior.variances, posterior.rest)
    model.score.set_posterior(*(torch.from_numpy(part) for part in (*parts, posterior.intercept)))
    return posterior


def fit_on_cached(
    model: URMForRewardModeling, dataset: Dataset, features: Mapping[str, Any], asked: bool | None
) -> None:
    """
    The posterior of a frozen backbone's hidden states, which does not wait for the head to be trained.

    Args:
        model ([`URMForRewardModeling`]): its head gets the posterior.
        dataset (`Dataset`): with `feature`, an index of hidden states, and `ratings`.
        features (`dict[str, Features]`): hidden states; those of "train" are read.
        asked (`bool`, *optional*): False fits none; None, the default of a training, says why there is none, which
            True makes an error.

    Raises:
        ValueError: `asked`, and there is nothing to fit it on.
    """
    if asked is False:
        return
    hidden = features["train"][np.array(dataset["feature"])]
    try:
        set_posterior(model, hidden, np.array(dataset["ratings"], dtype=np.float64))
    except ValueError as error:
        if asked:
            raise
        logger.warning("%s The model will not tell what it does not know (`epistemic`).", error)


def fit_on_rows(
    model: URMForRewardModeling,
    tokenizer: Any,
    dataset: Dataset,
    args: Any,
    *,
    name: str = "rated",
    rank: int | None = None,
) -> Posterior:
    """
    Fits a trained model's posterior on rated rows: those that it was trained on.

    Args:
        model ([`URMForRewardModeling`]): its backbone reads the rows; its head gets the posterior.
        tokenizer (`PreTrainedTokenizerBase`): the model's.
        dataset (`Dataset`): rows as the attribute stage reads them.
        args ([`URMAttributeConfig`]): `max_length`, `truncation`, `on_error`, `output_dir`, `cache_dir`,
            `dataset_num_proc` and `max_tokens_per_batch` are read.
        name (`str`, *optional*, defaults to `"rated"`): what errors call the dataset.
        rank (`int`, *optional*): directions to keep.

    Raises:
        RowError: rows that cannot be used.
        ValueError: too few ratings, see [`set_posterior`].
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
    return set_posterior(model, hidden, np.array(encoded["ratings"], dtype=np.float64), rank)
