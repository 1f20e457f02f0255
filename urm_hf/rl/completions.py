"""Scores of the completions that a policy wrote, also of those that no row of a dataset could hold."""

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from accelerate import PartialState
from transformers import PreTrainedModel

from urm_hf.data.content import Messages, read_messages, says_nothing, split_turns
from urm_hf.data.conversations import read_conversation
from urm_hf.data.errors import RowError, telling_rows
from urm_hf.data.rendering import encode_turns
from urm_hf.data.seen import learnt_from_chats
from urm_hf.modeling import URMEnsemble
from urm_hf.scores import RewardScore, has_posterior
from urm_hf.scoring.remote import NOT_FINITE, RemoteScorer, is_url
from urm_hf.scoring.scorer import NonFiniteScores, RewardScorer
from urm_hf.uncertainty.measures import MEASURES

logger = logging.getLogger(__name__)

PLAIN_TEXT = (
    "prompts and completions are plain text, but the reward model learnt from chats, and gives the same words another "
    'reward there. For chats, give the trainer prompts that are messages: [{"role": "user", "content": "..."}] '
    "(docs/data.md)."
)
Scorer: TypeAlias = RewardScorer | RemoteScorer | PreTrainedModel | str | os.PathLike | list[str]
Texts: TypeAlias = Sequence[str | Messages]


class CompletionScorer:
    """
    Scores the completions of a batch, once for all functions that are called with it one after the other.

    Args:
        scorer (`RewardScorer`, `RemoteScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`): a scorer, or
            what one is made of: a model, the name of a repository or folder, or the URL of `urm serve`; a list of
            names makes an ensemble. What is named moves to the trainer's device; an instance stays where it is.
    """

    def __init__(self, scorer: Scorer):
        if isinstance(scorer, str) and is_url(scorer):
            scorer = RemoteScorer(scorer)
        self.follows_trainer = not isinstance(scorer, (RewardScorer, RemoteScorer, PreTrainedModel))
        if isinstance(scorer, (list, tuple)):
            scorer = URMEnsemble.from_pretrained(list(scorer))
        self.scorer = scorer if isinstance(scorer, (RewardScorer, RemoteScorer)) else RewardScorer(scorer)
        # TRL calls its reward functions one after the other with the same batch: the last one is all there is to keep
        self.batch: str | None = None
        self._told_form = False
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
        if len(prompts) != len(completions):
            raise ValueError(
                f"`prompts` and `completions` must be of one length, got {len(prompts)} and {len(completions)}: the "
                "prompt of each completion is wanted, repeated where it has several."
            )
        given = {name: (columns or {}).get(name) for name in ("tools", "chat_template_kwargs")}
        batch = repr((prompts, completions, given, on_error))
        if batch == self.batch:
            return self.last
        if self.follows_trainer and trainer_state is not None and isinstance(self.scorer, RewardScorer):
            # not before: the trainer's device is known only once it has started the processes
            self.scorer.model.to(PartialState().device)
        self._tell_other_form(prompts, completions)
        rows = []
        for number, (prompt, answer) in enumerate(zip(prompts, completions, strict=True)):
            own = {name: values[number] for name, values in given.items() if values}
            rows.append(self._build_row(prompt, answer, own))
        if on_error != "raise":
            self.last = self._score_rows(rows)
        elif isinstance(self.scorer, RemoteScorer):
            self.last = list(_raise_first(self.scorer.score_usable(rows)))
        else:
            self.last = list(self.scorer.score(rows))
        self.batch = batch  # last, so that a batch that failed is not taken for scored when it comes again
        return self.last

    def _tell_other_form(self, prompts: Texts, completions: Texts):
        """Says once where completions are plain text to a model that learnt from chats."""
        if self._told_form:
            return
        if any(isinstance(one, str) and isinstance(two, str) for one, two in zip(prompts, completions, strict=True)):
            scorer = self.scorer
            if scorer.learnt_from_chats if isinstance(scorer, RemoteScorer) else learnt_from_chats(scorer.model):
                logger.warning(PLAIN_TEXT)
            self._told_form = True

    def _score_rows(self, rows: Sequence[Any]) -> list[RewardScore | None]:
        """The scores of the rows that can be scored, and None for the others."""
        if isinstance(self.scorer, RemoteScorer):
            return self._score_remotely(self.scorer, rows)
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

    def _score_remotely(self, scorer: RemoteScorer, rows: Sequence[Any]) -> list[RewardScore | None]:
        scores: list[RewardScore | None] = []
        for number, score in enumerate(results := scorer.score_usable(rows)):
            if isinstance(score, RowError):
                logger.warning("completion %d gets no reward: %s", number, score)
            scores.append(None if isinstance(score, RowError) else score)
        # as of a model in this process: where every reward is not finite no run would teach anything
        if results and all(isinstance(score, RowError) and NOT_FINITE in str(score) for score in results):
            raise NonFiniteScores(str(results[0]), row=0, indices=list(range(len(results))))
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
                if isinstance(self.scorer, RemoteScorer):
                    return unanswered  # the server has the template that writes it
                turns, kwargs = list(unanswered.turns or ()), unanswered.chat_template_kwargs
                ids = encode_turns(self.scorer.tokenizer, turns, unanswered.tools, kwargs)
        except RowError:
            return answered  # the encoder tells what is wrong with it
        return {"input_ids": ids}


def check_measure(name: str, scorer: RewardScorer | RemoteScorer) -> str:
    """
    `name`, if it is a measure and the scorer's model gives it. Asked before a training starts, not in its first step.

    Raises:
        ValueError: no such measure, or a model that does not give it.
    """
    if name not in MEASURES:
        raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {name!r}.")
    if not scorer.attributes:
        raise ValueError(f"{name} needs a URM or an ensemble; {_describe(scorer)} gives no uncertainty.")
    if MEASURES[name].needs_ensemble and not has_members(scorer):
        raise ValueError(f"{name} compares members, so it needs an ensemble; reward_std is for a single URM as well.")
    if MEASURES[name].needs_epistemic and not has_members(scorer) and not _has_posterior(scorer):
        raise ValueError(
            f"{name} needs an ensemble or a URM with a posterior (`urm posterior`); reward_std is for any URM."
        )
    return name


def has_members(scorer: RewardScorer | RemoteScorer) -> bool:
    """Whether the model of a scorer, here or on a server, is an ensemble."""
    return scorer.is_ensemble if isinstance(scorer, RemoteScorer) else isinstance(scorer.model, URMEnsemble)


def _has_posterior(scorer: RewardScorer | RemoteScorer) -> bool:
    return scorer.has_posterior if isinstance(scorer, RemoteScorer) else has_posterior(scorer.model)


def _describe(scorer: RewardScorer | RemoteScorer) -> str:
    return f"{scorer.name} of {scorer.url}" if isinstance(scorer, RemoteScorer) else type(scorer.model).__name__


def _raise_first(results: Sequence[RewardScore | RowError]) -> list[RewardScore]:
    """The scores, if there are no errors among them."""
    for result in results:
        if isinstance(result, RowError):
            raise result
    return [result for result in results if isinstance(result, RewardScore)]
