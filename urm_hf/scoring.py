"""Rewards with uncertainty for conversations: batches, order kept, the ids that the model was trained on."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import ModelOutput

from urm_hf.batching import pad_batch, pad_token_id, token_batches
from urm_hf.conversations import check_truncation, encode_conversation, limit_length
from urm_hf.modeling.modeling_urm_ensemble import NonFiniteReward


@dataclass
class RewardScore(ModelOutput):
    """
    One conversation's score. Fields read as attributes or keys; those that a model does not give are absent.

    Args:
        reward: higher is better; compares answers to one prompt.
        reward_std: in the unit of the reward; higher = less sure. Of an ensemble: root of the total variance.
        attribute_means, attribute_stds, gating_weights: by attribute name; of an ensemble: averages over members, for
            stds the root of the total variance.
        epistemic_variance: sum over attributes of the variance of members' means; in squared units of the ratings;
            higher = less known. Ensembles only.
        reward_gap: largest difference between members' rewards (Eq. 7); higher = less known. Ensembles only.
        covariance_norm: largest Frobenius norm of members' covariances (Eq. 8), in squared units of the ratings;
            higher = less sure. For a single URM, that of its own covariance.
        attribute_variance: sum over attributes of sigma^2 (section 5.2.3), in squared units of the ratings.
        member_rewards: each member's reward. Ensembles only.
        n_tokens: tokens of the conversation as scored. truncated: whether some were cut off.
    """

    reward: float | None = None
    reward_std: float | None = None
    attribute_means: dict[str, float] | None = None
    attribute_stds: dict[str, float] | None = None
    gating_weights: dict[str, float] | None = None
    attribute_variance: float | None = None
    covariance_norm: float | None = None
    epistemic_variance: float | None = None
    reward_gap: float | None = None
    member_rewards: list[float] | None = None
    n_tokens: int | None = None
    truncated: bool | None = None


class RewardScorer:
    """
    Scores conversations with a URM, an ensemble, or any reward model of one output.

    ```python
    scorer = RewardScorer("org/urm-8b")
    scores = scorer.score([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]])
    scores[0].reward, scores[0].reward_std
    ```

    Args:
        model: an instance, or a repository or folder that `AutoModelForSequenceClassification` loads.
        tokenizer (*optional*): default: the one saved with the model.
        max_tokens_per_batch (`int`): padded tokens that pass the model at once.
        max_length (`int`, *optional*): longest conversation in tokens. Default: what the model's positions allow.
        truncation (`str`): for longer ones: "error", "left" (keep the end) or "right" (keep the beginning).
        trust_remote_code, revision, **model_kwargs: for loading `model` by name (`dtype`, `device_map`, ...).

    Attributes:
        stats (`dict`): conversations, tokens and truncated rows of the last call of `score`.
    """

    def __init__(
        self,
        model: PreTrainedModel | str | os.PathLike,
        tokenizer: PreTrainedTokenizerBase | None = None,
        *,
        max_tokens_per_batch: int = 8192,
        max_length: int | None = None,
        truncation: str = "error",
        trust_remote_code: bool = False,
        revision: str | None = None,
        **model_kwargs: Any,
    ):
        if check_truncation(truncation) == "drop":
            raise ValueError('`truncation="drop"` would lose rows of the result; use "error", "left" or "right".')
        if max_tokens_per_batch < 1:
            raise ValueError(f"`max_tokens_per_batch` must be positive, got {max_tokens_per_batch}.")
        if max_length is not None and max_length < 1:
            raise ValueError(f"`max_length` must be positive, got {max_length}.")
        hub = {"revision": revision, "trust_remote_code": trust_remote_code}
        if isinstance(model, (str, os.PathLike)):
            model = AutoModelForSequenceClassification.from_pretrained(model, num_labels=1, **hub, **model_kwargs)
        elif model_kwargs:
            raise ValueError(f"{sorted(model_kwargs)} are for loading a model by name, but `model` is an instance.")
        if tokenizer is None:
            # an ensemble has the tokenizer of its first member
            pins = getattr(model.config, "revisions", None)
            tokenizer = AutoTokenizer.from_pretrained(
                model.config.name_or_path, **(hub | {"revision": pins[0]} if pins else hub)
            )
        if not hasattr(model.config, "attributes"):  # such models look for the last token that is not padding
            model.config.get_text_config().pad_token_id = pad_token_id(tokenizer)
        self.model, self.tokenizer = model.eval(), tokenizer
        self.max_tokens_per_batch, self.truncation = max_tokens_per_batch, truncation
        limit = getattr(model.config, "max_position_embeddings", None)
        self.max_length = limit if max_length is None else max_length
        self.attributes: list[str] | None = getattr(model.config, "attributes", None)
        self.stats: dict[str, int] = {}

    def encode(self, conversations: Iterable[Any]) -> tuple[list[list[int]], list[bool]]:
        """Token ids of each conversation, and whether it was truncated. An error names the row."""
        sequences, cut = [], []
        for number, conversation in enumerate(conversations):
            try:
                ids = encode_conversation(self.tokenizer, conversation)
                kept = limit_length(ids, self.max_length, self.truncation)
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from error
            sequences.append(kept or [])
            cut.append(len(sequences[-1]) < len(ids))
        return sequences, cut

    def score(self, conversations: Iterable[Any], progress: bool = False) -> list[RewardScore]:
        """
        One score for each conversation, in their order.

        Args:
            conversations: messages, rows with `prompt` and `completion` or `response`, texts or token ids, as the
                table in `urm_hf.conversations` lists.
            progress: shows a progress bar.

        Raises:
            ValueError: a row cannot be encoded or is too long, or its reward is not finite; the row is named.
        """
        sequences, cut = self.encode(conversations)
        scores: list[RewardScore | None] = [None] * len(sequences)
        self.stats = {"conversations": len(sequences), "tokens": sum(map(len, sequences)), "truncated": sum(cut)}
        pad = pad_token_id(self.tokenizer)
        with tqdm(total=len(sequences), unit="conv", desc="Scoring", disable=not progress) as bar:
            for batch in token_batches([len(sequence) for sequence in sequences], self.max_tokens_per_batch):
                inputs = pad_batch([sequences[row] for row in batch], pad)
                try:
                    with torch.inference_mode():
                        output = self.model(**{name: tensor.to(self.model.device) for name, tensor in inputs.items()})
                except NonFiniteReward as error:
                    rows = [batch[row] for row in error.rows]
                    raise ValueError(f"rows {rows[:8]} of the conversations: {error}") from error
                for row, score in zip(batch, output_rows(output, self.attributes), strict=True):
                    if not torch.isfinite(torch.tensor(score["reward"])):
                        raise ValueError(f"row {row}: the model gave the reward {score['reward']}.")
                    scores[row] = RewardScore(**score, n_tokens=len(sequences[row]), truncated=cut[row])
                bar.update(len(batch))
        return scores  # type: ignore[return-value]  # every row was in one batch


def output_rows(output: ModelOutput, attributes: Sequence[str] | None) -> list[dict[str, Any]]:
    """A model's output for B conversations as B dictionaries of numbers, with the fields of [`RewardScore`]."""
    columns: dict[str, Tensor] = {"reward": output.logits[:, 0]}
    named: dict[str, Tensor] = {}
    if "attribute_stds" in output:
        stds = output.attribute_stds
        columns["reward_std"] = output.reward_std
        if "rewards" in output:  # an ensemble: average over members, (M, B, n) -> (B, n)
            total = output.aleatoric_variance + output.epistemic_variance
            named = {"means": output.attribute_means.mean(0), "stds": total.sqrt(), "w": output.gating_weights.mean(0)}
            columns |= {
                "attribute_variance": stds.square().sum(-1).mean(0),
                "covariance_norm": output.covariance_norm,
                "epistemic_variance": output.epistemic_variance.sum(-1),
                "reward_gap": output.reward_gap,
                "member_rewards": output.rewards.T,
            }
        else:
            named = {"means": output.attribute_means, "stds": stds, "w": output.gating_weights}
            columns |= {
                "attribute_variance": stds.square().sum(-1),
                "covariance_norm": stds.square().norm(dim=-1),
            }
    lists = {name: tensor.float().cpu().tolist() for name, tensor in columns.items()}
    for key, name in (("means", "attribute_means"), ("stds", "attribute_stds"), ("w", "gating_weights")):
        if key in named:
            rows = named[key].float().cpu().tolist()
            lists[name] = [dict(zip(attributes or map(str, range(len(row))), row, strict=True)) for row in rows]
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
