"""What scoring gives and all else reads: one conversation's reward with its uncertainty."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class RewardScore(ModelOutput):
    """
    One conversation's score. Fields read as attributes or keys; those that a model does not give are absent.

    Of a model that was trained by the squared error (`loss_type="deterministic"`) nothing is given that is read from
    sigma, which that loss never trains.

    Args:
        reward: higher is better; compares answers to one prompt.
        reward_std: in the unit of the reward; higher = less sure. Of an ensemble: root of the total variance.
        attribute_means, attribute_stds, gating_weights: by attribute name; of an ensemble: averages over members, for
            stds the root of the total variance.
        attribute_epistemic_stds: by attribute: root of the variance of the mean that is not known. Of a single URM: of
            its posterior (`urm posterior`), if it has one; of an ensemble: of members' means, and on top of it what
            their posteriors leave open on average, if all have one.
        attribute_disagreement_stds: by attribute: standard deviation of members' means alone. Ensembles only.
        reward_epistemic_std: as `attribute_epistemic_stds`, of the reward, in its unit; higher = less known.
        attribute_gaps: by attribute: largest difference between members' means (Eq. 7). Ensembles only.
        epistemic_variance: sum over attributes of the squares of `attribute_epistemic_stds`; in squared units of the
            ratings; higher = less known.
        reward_gap: largest difference between members' rewards (Eq. 7); higher = less known. Ensembles only.
        covariance_norm: largest Frobenius norm of members' covariances (Eq. 8), in squared units of the ratings;
            higher = less sure. For a single URM, that of its own covariance.
        attribute_variance: sum over attributes of sigma^2 (section 5.2.3), in squared units of the ratings.
        member_rewards: each member's reward. Ensembles only.
        intervals: by level ("0.9"), then by attribute: the lower and upper end of what holds a human rating in so many
            cases. Single URMs that were calibrated (`urm posterior`, `urm calibrate`). See `attribute_intervals`.
        posterior_features: r + 1 numbers that two answers are compared by, if they were asked for
            ([`margin_epistemic_std`]). Single URMs with a posterior.
        n_tokens: tokens of the conversation as scored. truncated: whether some were cut off.
    """

    reward: float | None = None
    reward_std: float | None = None
    attribute_means: dict[str, float] | None = None
    attribute_stds: dict[str, float] | None = None
    gating_weights: dict[str, float] | None = None
    attribute_epistemic_stds: dict[str, float] | None = None
    attribute_disagreement_stds: dict[str, float] | None = None
    attribute_gaps: dict[str, float] | None = None
    attribute_variance: float | None = None
    covariance_norm: float | None = None
    epistemic_variance: float | None = None
    reward_epistemic_std: float | None = None
    reward_gap: float | None = None
    member_rewards: list[float] | None = None
    intervals: dict[str, dict[str, list[float]]] | None = None
    posterior_features: list[float] | None = None
    n_tokens: int | None = None
    truncated: bool | None = None

    def attribute_intervals(self, level: float = 0.9) -> dict[str, tuple[float, float]]:
        """
        What holds a human rating of each attribute in `level` of all cases, lower and upper end on the rating scale.

        It is meant for one rating by one person, of texts like those that were rated, and is centred on the mean of
        the model's posterior, from which `attribute_means` may differ a little. It ends where the scale does if the
        model knows it (`attribute_scales`), else it may reach beyond.

        Args:
            level (`float`, *optional*, defaults to 0.9): one that the model was calibrated for.

        Raises:
            ValueError: the model is not calibrated, or not for this level.
        """
        if self.intervals is None:
            raise ValueError(
                "This score has no intervals: its model is not calibrated. `urm calibrate MODEL --data RATINGS --out "
                "DIR` does it for a single URM with a posterior."
            )
        try:  # levels of half or single precision as well
            key = next(known for known in self.intervals if abs(float(known) - float(level)) < 1e-6)
        except (StopIteration, TypeError, ValueError) as error:
            raise ValueError(f"`level` must be one of {', '.join(self.intervals)}, got {level!r}.") from error
        return {name: (low, high) for name, (low, high) in self.intervals[key].items()}


SIGMA_FIELDS = ("reward_std", "attribute_stds", "attribute_variance", "covariance_norm")  # that are read from sigma


def has_sigma(model: Any) -> bool:
    """
    Whether a model's sigma means anything: the squared error (`loss_type="deterministic"`) never trains it.

    Args:
        model (`PreTrainedModel`): of an ensemble, whether any member's does.
    """
    losses = getattr(model, "attribute_losses", [getattr(model.config, "attribute_loss", None)])
    return any(loss != "deterministic" for loss in losses)


def has_posterior(model: Any) -> bool:
    """
    Whether a model is a URM that tells what it does not know, by a posterior over its means (`urm posterior`).

    Args:
        model (`PreTrainedModel`): of any kind.
    """
    return getattr(model.config, "posterior_rank", None) is not None


def model_rows(
    model: Any, output: ModelOutput, attributes: Sequence[str] | None, levels: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """
    As [`output_rows`], without what is read from sigma where the model's means nothing.

    Args:
        model (`PreTrainedModel`): whose output it is.
        output, attributes, levels: as of [`output_rows`].
    """
    rows = output_rows(output, attributes, levels)
    if has_sigma(model):
        return rows
    return [{name: value for name, value in row.items() if name not in SIGMA_FIELDS} for row in rows]


def output_rows(
    output: ModelOutput, attributes: Sequence[str] | None, levels: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """
    A model's output for B conversations as B dictionaries of numbers, with the fields of [`RewardScore`].

    Args:
        output (`ModelOutput`): of a URM, an ensemble or a scalar reward model.
        attributes (`list[str]`, *optional*): their names. By default their numbers.
        levels (`list[str]`, *optional*): of the output's intervals, which are left out without them.
    """
    columns: dict[str, Tensor] = {"reward": output.logits[:, 0]}
    named: dict[str, Tensor] = {}
    if "attribute_stds" in output:
        stds = output.attribute_stds
        columns["reward_std"] = output.reward_std
        if "rewards" in output:  # an ensemble: average over members, (M, B, n) -> (B, n)
            total = output.aleatoric_variance + output.epistemic_variance
            named = {"means": output.attribute_means.mean(0), "stds": total.sqrt(), "w": output.gating_weights.mean(0)}
            named |= {"unknown": output.epistemic_variance.sqrt(), "gaps": output.attribute_gap}
            named["apart"] = output.disagreement_variance.sqrt()
            columns |= {
                "attribute_variance": stds.square().sum(-1).mean(0),
                "covariance_norm": output.covariance_norm,
                "epistemic_variance": output.epistemic_variance.sum(-1),
                "reward_epistemic_std": output.reward_epistemic_std,
                "reward_gap": output.reward_gap,
                "member_rewards": output.rewards.T,
            }
        else:
            named = {"means": output.attribute_means, "stds": stds, "w": output.gating_weights}
            columns |= {
                "attribute_variance": stds.square().sum(-1),
                "covariance_norm": stds.square().norm(dim=-1),
            }
            if "attribute_epistemic_stds" in output:
                named["unknown"] = output.attribute_epistemic_stds
                columns["epistemic_variance"] = output.attribute_epistemic_stds.square().sum(-1)
                columns["reward_epistemic_std"] = output.reward_epistemic_std
    if "posterior_features" in output:
        columns["posterior_features"] = output["posterior_features"]
    lists = {name: tensor.float().cpu().tolist() for name, tensor in columns.items()}
    names = {"means": "attribute_means", "stds": "attribute_stds", "w": "gating_weights"}
    names |= {"unknown": "attribute_epistemic_stds", "apart": "attribute_disagreement_stds", "gaps": "attribute_gaps"}
    for key, name in names.items():
        if key in named:
            rows = named[key].float().cpu().tolist()
            lists[name] = [dict(zip(attributes or map(str, range(len(row))), row, strict=True)) for row in rows]
    if levels and "attribute_intervals" in output:
        names_of = attributes or list(map(str, range(output.attribute_means.shape[-1])))
        lists["intervals"] = [
            {level: dict(zip(names_of, ends, strict=True)) for level, ends in zip(levels, row, strict=True)}
            for row in output.attribute_intervals.float().cpu().tolist()  # (L, n, 2)
        ]
    return [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
