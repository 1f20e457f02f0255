"""
Rewards that know their uncertainty, as `reward_funcs` of TRL's GRPOTrainer, RLOOTrainer and OnlineDPOTrainer.

```python
reward = UncertaintyPenalizedReward("org/urm-ensemble", measure="reward_gap", coefficient=0.5)
GRPOTrainer(policy, reward_funcs=reward, ...)
```

A model or its name is a reward function to TRL as well (`reward_funcs="org/urm"`): then the reward is `logits`, and
uncertainty plays no part. Conversations get the ids that [`RewardScorer`] gives them, under the reward model's own
template. For plain text that differs from TRL's way with a model: here the text is closed by EOS, as in training.

To TRL's log each function adds the mean and the population standard deviation over its call of the raw reward and of
the uncertainty, and the share of completions that kept a reward; to its table of completions both, for each of them.
"""

from collections.abc import Callable, Sequence
from importlib.metadata import version
from statistics import NormalDist, fmean, pstdev
from typing import Any, TypeAlias

from packaging.version import Version

from urm_hf.rl.completions import CompletionScorer, Scorer, Texts, check_measure
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.measures import compute_uncertainty

__all__ = [
    "AttributeReward",
    "AttributeRewards",
    "CompletionScorer",
    "LowerConfidenceBoundReward",
    "ScoredReward",
    "Scorer",
    "UncertaintyFilteredReward",
    "UncertaintyPenalizedReward",
]

LogMetric: TypeAlias = Callable[[str, float], None]
LogExtra: TypeAlias = Callable[[str, list], None]


class ScoredReward:
    """
    What the reward functions below share: they read scores, make rewards of them, and log.

    Args:
        scorer (`CompletionScorer`): may be that of other functions too.
        measure (`str`): what the uncertainty is called in the log.
        name (`str`): what TRL calls the function in its log.
    """

    def __init__(self, scorer: CompletionScorer, measure: str, name: str):
        self.completions, self.measure, self.__name__ = scorer, measure, name

    def __call__(
        self,
        prompts: Texts,
        completions: Texts,
        log_metric: LogMetric | None = None,
        log_extra: LogExtra | None = None,
        trainer_state: Any = None,
        **columns: Any,
    ) -> list[float | None]:
        """
        Rewards of B completions, in their order; None is no reward.

        A completion that cannot be encoded, is too long for the scorer, or has no finite reward gets None; how many
        is logged as `unusable`.

        Args:
            prompts (`list[str]` or `list[Messages]`): B of them.
            completions (`list[str]` or `list[Messages]`): B of them.
            log_metric (`Callable[[str, float], None]`, *optional*): TRL's, of one number of the batch.
            log_extra (`Callable[[str, list], None]`, *optional*): TRL's, of a column of its table of completions.
            trainer_state (`TrainerState`, *optional*): of TRL's trainers.
            columns: others of the dataset; `tools` and `chat_template_kwargs` go to the chat template.

        Returns:
            `list[float | None]` of length B.

        Raises:
            ValueError: no completion of the batch that could be encoded has a finite reward.
        """
        scores = self.completions.score_usable(prompts, completions, trainer_state, columns)
        usable = [number for number, score in enumerate(scores) if score is not None]
        raw: list[float] = []
        uncertainties: list[float] = []
        if usable:
            raw, uncertainties = self.read([score for score in scores if score is not None])
        # TRL wants one entry for each completion, in their order
        rewards = spread(self.rewards(raw, uncertainties), usable, len(scores))
        # both are logged as they are before the penalty or the filter: a policy that exploits the reward model shows
        # in a reward that rises together with its uncertainty
        for field, values in (("reward", raw), (self.measure, uncertainties)):
            if log_metric is not None and values:
                log_metric(f"{self.__name__}/{field}/mean", fmean(values))
                log_metric(f"{self.__name__}/{field}/std", pstdev(values))
            if log_extra is not None:
                log_extra(f"{self.__name__}/{field}", spread(values, usable, len(scores)))
        if log_metric is not None:
            log_metric(f"{self.__name__}/kept_share", fmean(reward is not None for reward in rewards))
            if len(usable) < len(scores):
                log_metric(f"{self.__name__}/unusable", len(scores) - len(usable))
        return rewards

    def read(self, scores: list[RewardScore]) -> tuple[list[float], list[float]]:
        """Raw rewards and uncertainties (higher = less sure) of B scores."""
        return [score["reward"] for score in scores], compute_uncertainty(scores, self.measure).tolist()

    def rewards(self, raw: list[float], uncertainties: list[float]) -> list[float | None]:
        """What the policy is rewarded with, of B raw rewards and their uncertainties; None is no reward."""
        return list(raw)


def spread(values: Sequence[Any], places: Sequence[int], length: int) -> list[Any]:
    """`values` at these places of a list, and None elsewhere."""
    whole: list[Any] = [None] * length
    for place, value in zip(places, values, strict=True):
        whole[place] = value
    return whole


class UncertaintyPenalizedReward(ScoredReward):
    """
    r - coefficient * u: what is uncertain pays for it (UWO in Coste et al., 2024, has the members' variance for u).

    Trainers that divide rewards by their spread in the group change the scale of r - k u, not its order.

    Args:
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): see [`CompletionScorer`].
        measure (`str`, *optional*, defaults to `"reward_gap"`): one of `urm_hf.uncertainty.MEASURES`, higher = less
            sure; those that compare members need an ensemble.
        coefficient (`float`, *optional*, defaults to `1.0`): not negative; in units of the reward for one unit of the
            measure.
        name (`str`, *optional*): what TRL calls the function in its log.

    Raises:
        ValueError: a coefficient out of range, or a measure that the model does not give.
    """

    def __init__(
        self,
        scorer: Scorer,
        measure: str = "reward_gap",
        coefficient: float = 1.0,
        *,
        name: str = "uncertainty_penalized_reward",
    ):
        if not 0 <= coefficient < float("inf"):
            raise ValueError(f"`coefficient` must be finite and not negative, got {coefficient}.")
        shared = CompletionScorer(scorer)
        super().__init__(shared, check_measure(measure, shared.scorer), name)
        self.coefficient = coefficient

    def rewards(self, raw: list[float], uncertainties: list[float]) -> list[float | None]:
        return [r - self.coefficient * u for r, u in zip(raw, uncertainties, strict=True)]


class LowerConfidenceBoundReward(UncertaintyPenalizedReward):
    """
    r - z * reward_std: what the reward exceeds with probability `confidence`, if it is Gaussian. Needs no ensemble.

    Args:
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): see [`CompletionScorer`].
        confidence (`float`, *optional*, defaults to `0.9`): one-sided, at least 0.5 (z = 0) and below 1; 0.9 is
            z = 1.28.
        name (`str`, *optional*): what TRL calls the function in its log.

    Raises:
        ValueError: a confidence out of range, or a model that gives no `reward_std`.
    """

    def __init__(self, scorer: Scorer, confidence: float = 0.9, *, name: str = "lower_confidence_bound_reward"):
        if not 0.5 <= confidence < 1:
            raise ValueError(f"`confidence` must be at least 0.5 and below 1, got {confidence}.")
        super().__init__(scorer, "reward_std", NormalDist().inv_cdf(confidence), name=name)


class UncertaintyFilteredReward(ScoredReward):
    """
    r, or None where the uncertainty is above the threshold: such a completion does not teach (section 4.2).

    GRPO and RLOO of TRL leave a completion without any reward out of its group's mean and spread, and give it the
    advantage 0; they log a warning, and a KL term in the loss (GRPO's `beta`) still holds for its tokens. A group
    with one reward left, or none, teaches nothing. Beside other reward functions only this function's term is left
    out, which shifts the sum: take `multi_objective_aggregation="normalize_then_sum"`, where that is a term of 0.

    Args:
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): see [`CompletionScorer`].
        measure (`str`): one of `urm_hf.uncertainty.MEASURES`, higher = less sure.
        threshold (`float`): the largest uncertainty that is rewarded, in the unit of the measure; a quantile of it on
            data that the model knows is a start.
        name (`str`, *optional*): what TRL calls the function in its log.

    Raises:
        ValueError: a threshold out of range, a measure that the model does not give, or a trainer that would read None
            as a reward of 0, as TRL's OnlineDPOTrainer does, and all of them before TRL 1.6.
    """

    def __init__(self, scorer: Scorer, measure: str, threshold: float, *, name: str = "uncertainty_filtered_reward"):
        if not 0 <= threshold < float("inf"):
            raise ValueError(f"`threshold` must be finite and not negative, got {threshold}.")
        shared = CompletionScorer(scorer)
        super().__init__(shared, check_measure(measure, shared.scorer), name)
        self.threshold = threshold

    def __call__(self, prompts, completions, log_metric=None, log_extra=None, trainer_state=None, **columns):
        # Of TRL's trainers, those that understand None pass `log_metric`, and do since 1.6; others sum it up as 0. The
        # version can go when setup.cfg asks for 1.6.
        if trainer_state is not None and (log_metric is None or Version(version("trl")) < Version("1.6")):
            raise ValueError(
                f"this trainer of TRL {version('trl')} takes None for a reward of 0, so that it cannot filter. Filter "
                "with GRPOTrainer or RLOOTrainer of TRL 1.6 or newer, or use UncertaintyPenalizedReward or "
                "LowerConfidenceBoundReward."
            )
        return super().__call__(prompts, completions, log_metric, log_extra, trainer_state, **columns)

    def rewards(self, raw: list[float], uncertainties: list[float]) -> list[float | None]:
        return [r if u <= self.threshold else None for r, u in zip(raw, uncertainties, strict=True)]


class AttributeRewards(list):
    """
    The attributes as reward functions of their own: a list to pass, or to extend with others.

    ```python
    config = GRPOConfig(multi_objective_aggregation="normalize_then_sum", reward_weights=[0.7, 0.3], ...)
    GRPOTrainer(policy, AttributeRewards("org/urm", ["helpfulness", "coherence"]), config, ...)
    ```

    Each gives an attribute's mean on the scale of its ratings (of an ensemble: over members), without the gate, and
    logs its standard deviation. The weights are TRL's; normalise-then-sum makes the scales alike. The model scores a
    batch once for all of them.

    Args:
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): see [`CompletionScorer`].
        attributes (`list[str]`, *optional*): by default all of the model's, in its order.

    Raises:
        ValueError: an attribute that the model does not predict.
    """

    def __init__(self, scorer: Scorer, attributes: Sequence[str] | None = None):
        shared = CompletionScorer(scorer)
        known = shared.scorer.attributes or []
        chosen = known if attributes is None else list(attributes)
        unknown = [attribute for attribute in chosen if attribute not in known]
        if unknown or not chosen:
            raise ValueError(f"`attributes` must be of {known}, which the model predicts; got {chosen}.")
        super().__init__(AttributeReward(shared, "std", attribute) for attribute in chosen)


class AttributeReward(ScoredReward):
    """The predicted mean of the attribute that it is named by. See [`AttributeRewards`]."""

    def read(self, scores: list[RewardScore]) -> tuple[list[float], list[float]]:
        means = [score["attribute_means"][self.__name__] for score in scores]
        return means, [score["attribute_stds"][self.__name__] for score in scores]
