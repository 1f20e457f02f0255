"""
Hidden states of rated rows, what a model weighs them by, and what posteriors of other prompts predict of each.
"""

from collections.abc import Hashable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset

from urm_hf.modeling import URMForRewardModeling
from urm_hf.scores import has_sigma
from urm_hf.scoring.engine.padding import pad_token_id
from urm_hf.scoring.features import pooled_features
from urm_hf.trainers.encoding import EncodingReport, encode_dataset, encoder_for, longest_for
from urm_hf.trainers.rated_rows import plan_rated_rows, read_rated_rows
from urm_hf.trainers.row_weights import add_weighted, count_copies
from urm_hf.uncertainty.conformal import assign_folds
from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.posterior import SHARES, Posterior, choose_shares, fit_posterior
from urm_hf.uncertainty.spectrum import diagonalize

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
        weights (`np.ndarray`, *optional*): (N,) above 0, how often each row counts, as where the model was trained. By
            default once.

    Raises:
        ValueError: a weight is not above 0 and finite.
    """

    def __init__(
        self,
        model: URMForRewardModeling,
        hidden: Any,
        ratings: np.ndarray,
        prompts: Sequence[Hashable] | None = None,
        weigh: bool = True,
        sequences: Sequence[Sequence[int]] | None = None,
        weights: np.ndarray | None = None,
    ):
        self.weights = None if weights is None or (weights == 1).all() else weights
        self.copies = slice(None) if self.weights is None else count_copies(self.weights)
        self.sequences = sequences
        self.model, self.hidden, self.ratings = model, hidden, ratings
        self.weighs = weigh and has_sigma(model) and model.config.attribute_loss != "regression"
        self.prompts = range(len(ratings)) if prompts is None else prompts
        self.attributes = list(model.config.attributes)
        self._crossed: dict[int | None, CrossFit] = {}

    def __len__(self) -> int:
        return len(self.ratings)

    def repeat(self, values: Any) -> Any:
        """What is known of each row, an array (N, ...) or a list, with each row as often as its weight says."""
        if isinstance(values, np.ndarray):
            return values[self.copies]
        return [values[row] for row in np.arange(len(self))[self.copies]]

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

    def weights_of(self, rows: np.ndarray) -> np.ndarray | None:
        """How often some rows count; None where all count once."""
        return None if self.weights is None else self.weights[rows]

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
            precisions = self.weigh(hidden)
            for fold in np.unique(folds[rows]):
                mine = folds[rows] == fold
                parts = (part if part is None else part[mine] for part in (precisions, self.weights_of(rows)))
                add_weighted(moments[fold], hidden[mine], self.ratings[rows[mine]], *parts)
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

    def _project(self, posterior: Posterior, fold: int) -> np.ndarray:
        """What a posterior reads of the rows of a fold, in their order, (N, r + 1)."""
        batches = self.iter_batches()
        return np.concatenate([posterior.project(hidden[self.folds[rows] == fold]) for rows, hidden in batches])

    def cross_fit(self, rank: int | None) -> "CrossFit":
        """
        Each row predicted by a posterior of all other folds. Computed once for a rank.

        Raises:
            ValueError: there is one row alone, or the others do not hold enough to fit one.
        """
        if rank not in self._crossed:
            if len(self.moments) < 2:
                raise ValueError("one row cannot be predicted from others.")
            shape = (len(self.ratings), len(self.attributes))
            predictions = {share: (np.empty(shape), np.empty(shape)) for share in SHARES}
            for fold in range(len(self.moments)):
                others = [other for number, other in enumerate(self.moments) if number != fold]
                try:
                    spectrum = diagonalize(sum_moments(others), self.attributes)
                except ValueError as error:
                    raise ValueError(f"without the rows of one in {len(self.moments)} prompts, {error}") from error
                mine, features = self.folds == fold, None
                for share, (means, unknown) in predictions.items():
                    posterior = fit_posterior(spectrum, rank, share=share)
                    if features is None:  # one basis, whatever the share
                        features = self._project(posterior, fold)
                    means[mine], unknown[mine] = posterior.predict_of(features), posterior.epistemic_of(features)
            counted = {
                share: (self.repeat(means), self.repeat(unknown)) for share, (means, unknown) in predictions.items()
            }
            shares, noise = choose_shares(counted, self.repeat(self.ratings), self.repeat(self.prompts))
            chosen = [[part[:, k] for part in predictions[share]] for k, share in enumerate(shares)]
            means, unknown = (np.stack(part, axis=-1) for part in zip(*chosen, strict=True))
            self._crossed[rank] = CrossFit(shares, noise, means, unknown)
        return self._crossed[rank]


class CrossFit(NamedTuple):
    """What posteriors of other prompts predict of each row, at the share that [`choose_shares`] found."""

    shares: np.ndarray  # (n,) of a rating that each should count for
    noise: np.ndarray  # (n,) variance of a rating around its mean
    means: np.ndarray  # (N, n) of ratings
    unknown: np.ndarray  # (N, n) variances of these means


def sum_moments(parts: Sequence[Moments]) -> Moments:
    """The moments of all parts."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def read_states(
    model: URMForRewardModeling,
    tokenizer: Any,
    dataset: Dataset,
    args: Any,
    *,
    name: str = "rated",
    report: EncodingReport | None = None,
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
        report ([`EncodingReport`], *optional*): gets what became of the rows; see [`encode_dataset`].

    Raises:
        RowError: rows that cannot be used.
    """
    config = model.config
    attributes = list(config.attributes)
    args.max_length = longest_for(config, args.max_length)
    rated = read_rated_rows(dataset, attributes, config.attribute_scales, name)
    rated.read_usable()  # an error if no row can be read
    encoded = encode_dataset(
        dataset,
        encoder_for(config, tokenizer, args),
        plan_rated_rows(attributes, config.attribute_scales, rated),
        name=name,
        on_error=args.on_error,
        folder=args.output_dir,
        num_proc=args.dataset_num_proc,
        report=report,
    )
    weights = np.array(encoded["weight"], dtype=np.float64)
    if not weights.any():
        raise ValueError(f"all rows of the {name} dataset have the `weight` 0: there are no rated rows.")
    if not weights.all():  # they teach nothing
        encoded = encoded.select(np.flatnonzero(weights))
    sequences: Sequence[Sequence[int]] = list(encoded["input_ids"])
    hidden = pooled_features(
        model, sequences, pad_token_id(tokenizer), args.cache_dir, args.max_tokens_per_batch, "Hidden states"
    )
    ratings = np.array(encoded["ratings"], dtype=np.float64)
    return RatedStates(
        model, hidden, ratings, list(encoded["prompt"]), sequences=sequences, weights=weights[weights > 0]
    )
