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

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from statistics import NormalDist, fmean, pstdev
from typing import Any, TypeAlias

from accelerate import PartialState
from packaging.version import Version
from transformers import PreTrainedModel

from urm_hf.data.content import Messages, read_messages, says_nothing, split_turns
from urm_hf.data.conversations import read_conversation
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.rendering import encode_turns
from urm_hf.modeling import URMEnsemble
from urm_hf.scores import RewardScore
from urm_hf.scoring.scorer import NonFiniteScores, RewardScorer
from urm_hf.uncertainty.measures import MEASURES, compute_uncertainty

logger = logging.getLogger(__name__)

Scorer: TypeAlias = RewardScorer | PreTrainedModel | str | os.PathLike | list[str]
Texts: TypeAlias = Sequence[str | Messages]
LogMetric: TypeAlias = Callable[[str, float], None]
LogExtra: TypeAlias = Callable[[str, list], None]


class CompletionScorer:
    """
    Scores the completions of a batch, once for all functions that are called with it one after the other.

    Args:
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): a [`RewardScorer`], or what one
            is made of: a model, or the name of a repository or folder; a list of names makes an ensemble. What is
            named moves to the trainer's device; an instance stays where it is.
    """

    def __init__(self, scorer: Scorer):
        self.follows_trainer = not isinstance(scorer, (RewardScorer, PreTrainedModel))
        if isinstance(scorer, (list, tuple)):
            scorer = URMEnsemble.from_pretrained(list(scorer))
        self.scorer = scorer if isinstance(scorer, RewardScorer) else RewardScorer(scorer)
        # TRL calls its reward functions one after the other with the same batch: the last one is all there is to keep
        self.batch: str | None = None
        self.last: list[RewardScore | None] = []

    def score(self, prompts: Texts, completions: Texts, trainer_state: Any = None) -> list[RewardScore]:
        """
        The score of each completion.

        Args:
            prompts (`list[str]` or `list[Messages]`): B of them.
            completions (`list[str]` or `list[Messages]`): B of them.
            trainer_state (`TrainerState`, *optional*): of TRL's trainers, whose device the model follows.

        Returns:
            `list[RewardScore]`: B of them, in the same order.

        Raises:
            RowError: one of them cannot be encoded, or its reward is not finite.
        """
        scores = self.score_usable(prompts, completions, trainer_state, on_error="raise")
        return [score for score in scores if score is not None]  # with "raise" none is

    def score_usable(
        self,
        prompts: Texts,
        completions: Texts,
        trainer_state: Any = None,
        columns: Mapping[str, Any] | None = None,
        on_error: str = "skip",
    ) -> list[RewardScore | None]:
        """
        The score of each completion; None for one that cannot be encoded, or has no finite reward.

        Args:
            prompts (`list[str]` or `list[Messages]`): B of them.
            completions (`list[str]` or `list[Messages]`): B of them.
            trainer_state (`TrainerState`, *optional*): of TRL's trainers, whose device the model follows.
            columns (`dict`, *optional*): of these, `tools` and `chat_template_kwargs` go to the chat template: a list
                with an entry for each completion.
            on_error (`str`, *optional*, defaults to `"skip"`): "raise" to have no None.

        Returns:
            `list[RewardScore | None]`: B of them, in the same order.

        Raises:
            RowError: no completion that could be encoded has a finite reward: then the model is broken.
        """
        given = {name: (columns or {}).get(name) for name in ("tools", "chat_template_kwargs")}
        batch = repr((prompts, completions, given, on_error))
        if batch == self.batch:
            return self.last
        if self.follows_trainer and trainer_state is not None:
            # not before: the trainer's device is known only once it has started the processes
            self.scorer.model.to(PartialState().device)
        rows = []
        for number, (prompt, answer) in enumerate(zip(prompts, completions, strict=True)):
            own = {name: values[number] for name, values in given.items() if values}
            rows.append(self._build_row(prompt, answer, own))
        self.last = list(self.scorer.score(rows)) if on_error == "raise" else self._score_rows(rows)
        self.batch = batch  # last, so that a batch that failed is not taken for scored when it comes again
        return self.last

    def _score_rows(self, rows: Sequence[Any]) -> list[RewardScore | None]:
        """The scores of the rows that can be scored, and None for the others."""
        # In two steps: the scorer names the first row that it cannot encode and scores none, but tells all of those
        # without a finite reward at once.
        encoder, usable = self.scorer.encoder, dict[int, Any]()
        for number, row in enumerate(rows):
            try:
                encoder.encode(row)
                usable[number] = row
            except RowError as error:
                logger.warning("completion %d gets no reward: %s", number, error)
        scores: list[RewardScore | None] = [None] * len(rows)
        while usable:
            numbers = list(usable)
            try:
                for number, score in zip(numbers, self.scorer.score(list(usable.values())), strict=True):
                    scores[number] = score
                break
            except NonFiniteScores as error:
                if len(error.indices) == len(numbers):
                    raise  # of no completion at all: the model is broken, and no run would teach anything
                logger.warning("completions get no reward: %s", error)
                for index in error.indices:
                    del usable[numbers[index]]
        return scores

    def _build_row(self, prompt: str | Messages, completion: str | Messages, given: dict[str, Any]) -> Any:
        """
        What the scorer reads. A policy may answer nothing, or stop at a tool's output: no row of a dataset may, but
        here it earns what the model thinks of it, as it does where TRL scores with the model itself.
        """
        if isinstance(prompt, str) and isinstance(completion, str):
            return {"prompt": "", "completion": prompt + completion}
        answer = [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)
        answered = {"prompt": prompt, "completion": answer, **given}
        try:
            with telling_rows():
                last = read_messages(answer[-1:])
                if last and last[0].get("role") == "assistant" and not says_nothing(last):
                    return answered
                before = split_turns(prompt) if isinstance(prompt, str) else prompt
                unanswered = read_conversation({**given, "messages": [*before, *answer]})
                turns, kwargs = list(unanswered.turns or ()), unanswered.chat_template_kwargs
                ids = encode_turns(self.scorer.tokenizer, turns, unanswered.tools, kwargs)
        except RowError:
            return answered  # the encoder tells what is wrong with it
        return {"input_ids": ids}


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


def check_measure(name: str, scorer: RewardScorer) -> str:
    """
    `name`, if it is a measure and the scorer's model gives it. Asked before a training starts, not in its first step.

    Raises:
        ValueError: no such measure, or a model that does not give it.
    """
    if name not in MEASURES:
        raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {name!r}.")
    if not scorer.attributes:
        raise ValueError(f"{name} needs a URM or an ensemble; {type(scorer.model).__name__} gives no uncertainty.")
    if MEASURES[name].needs_ensemble and not isinstance(scorer.model, URMEnsemble):
        raise ValueError(f"{name} compares members, so it needs an ensemble; reward_std is for a single URM as well.")
    return name
