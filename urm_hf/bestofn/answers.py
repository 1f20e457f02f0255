"""The best of n answers to each prompt, by a reward model that says how sure it is."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from transformers import PreTrainedModel

from urm_hf.bestofn.rules import Ranking, Rule, rank
from urm_hf.bestofn.sampling import Answer, Prompt, sample_answers
from urm_hf.rl.completions import CompletionScorer, Scorer, has_members
from urm_hf.scores import RewardScore

Answers: TypeAlias = Sequence[Sequence[str]]
Policy: TypeAlias = PreTrainedModel | str | os.PathLike | Callable[[list[Prompt]], Answers] | Answers


@dataclass(frozen=True)
class BestAnswer:
    """
    What was chosen for one prompt.

    Args:
        prompt (`str` or `Messages`): what was asked.
        answer (`str`): the chosen candidate.
        score (`RewardScore`, *optional*): its reward and uncertainty. None if every candidate is empty.
        index (`int`): which of the candidates it is.
        candidates (`list[str]`): all N, in their order.
        scores (`list[RewardScore | None]`): theirs. An empty one has no score, and is taken only if all are.
        cut (`list[bool]`, *optional*): whether each was ended by `max_new_tokens`; None for answers that were not
            generated here.
        eligible (`list[bool]`): whether each was scored, and left by the filter if there is one. If none is, the
            reward decides.
        tied (`int`): how many share the first place; the first of them is taken.
    """

    prompt: Prompt
    answer: str
    score: RewardScore | None
    index: int
    candidates: list[str]
    scores: list[RewardScore | None]
    cut: list[bool] | None
    eligible: list[bool]
    tied: int

    @property
    def empty(self) -> list[bool]:
        """Whether each candidate says nothing."""
        return [not candidate.strip() for candidate in self.candidates]

    @property
    def duplicates(self) -> int:
        """Candidates that repeat another one."""
        return len(self.candidates) - len(set(self.candidates))


def best_of_n(
    policy: Policy,
    prompts: Sequence[Prompt],
    n: int | None,
    scorer: Scorer,
    *,
    select: str | Rule = "reward",
    **sampling: Any,
) -> list[BestAnswer]:
    """
    For each prompt the best of n answers.

    ```python
    prompts = [[{"role": "user", "content": "Name a river."}]]
    best = best_of_n("HuggingFaceTB/SmolLM2-135M-Instruct", prompts, 8, "org/urm", max_new_tokens=64, seed=1)
    best[0].answer, best[0].score.reward, best[0].score.reward_std
    ```

    Args:
        policy (`PreTrainedModel`, `str`, `PathLike`, `Callable` or `list[list[str]]`):
            A causal language model or its name, which writes the answers; or a function that gives a list of texts
            for each of a list of prompts; or these lists.
        prompts (`list[Messages]` or `list[str]`):
            P lists of messages, or P texts. Texts are continued and scored as they stand, without a chat template, as
            TRL does.
        n (`int`, *optional*):
            Answers to a prompt. None: as many as there are, where they are not generated here.
        scorer (`RewardScorer`, `PreTrainedModel`, `str`, `PathLike` or `list[str]`):
            A [`RewardScorer`], a model, or the name of one; a list of names makes an ensemble.
        select (`str` or `Rule`, *optional*, defaults to `"reward"`):
            "reward", "min", "mean_minus_k_std" or "filtered"; a [`Rule`] of `urm_hf.bestofn.rules` has settings.
        sampling:
            For a model: `max_new_tokens`, `temperature`, `top_p`, `top_k`, `seed`, `batch_size`, `tokenizer`,
            `revision`, ...: see [`urm_hf.bestofn.sampling.sample_answers`]. Equal ones give equal answers.

    Returns:
        `list[BestAnswer]`: one for each prompt, in their order.

    Raises:
        ValueError: an argument is out of range, answers do not match the prompts, or the model cannot be asked this.
    """
    if isinstance(prompts, str) or len(prompts) == 0:
        raise ValueError(f"`prompts` must be a list of texts or of messages, and not empty; got {prompts!r}.")
    # one conversation instead of a list of them would be read as many prompts of one turn
    if isinstance(prompts[0], dict):
        raise ValueError("`prompts` must be a list of conversations, got the messages of one: pass [messages].")
    rule = Rule(select) if isinstance(select, str) else select
    shared = CompletionScorer(scorer)
    rule.of(_read_kind(shared.scorer))  # told before anything is generated
    answers, cut = _get_answers(policy, prompts, n, sampling)
    scores = _score_answers(shared, prompts, answers)
    # all at once: a filter that keeps a share of the candidates keeps it of all of them, not of each prompt's
    ranking = rank(rule, list(chain.from_iterable(scores)))
    best, start = [], 0
    for number, (prompt, candidates) in enumerate(zip(prompts, answers, strict=True)):
        part = slice(start, start + len(candidates))
        start = part.stop
        best.append(_choose_best(prompt, candidates, scores[number], cut and cut[number], ranking, part))
    return best


def _read_kind(scorer: Any) -> str:
    if not scorer.attributes:
        return "scalar"
    return "ensemble" if has_members(scorer) else "urm"


def _get_answers(policy: Policy, prompts: Sequence[Prompt], n: int | None, sampling: dict[str, Any]):
    """The answers to each prompt, and whether each was cut, if that is known."""
    if isinstance(policy, (str, os.PathLike, PreTrainedModel)):
        if n is None:
            raise ValueError("`n` is needed for a policy that generates.")
        written: list[list[Answer]] = sample_answers(policy, prompts, n, **sampling)
        texts, cut = [], []
        for group in written:
            texts.append([answer.text for answer in group])
            cut.append([answer.cut for answer in group])
        return texts, cut
    if sampling:
        raise ValueError(f"{sorted(sampling)} are for a policy that generates, but `policy` is {type(policy)}.")
    given = policy(list(prompts)) if callable(policy) else policy
    if len(given) != len(prompts):
        raise ValueError(f"there must be a list of answers for each of the {len(prompts)} prompts, got {len(given)}.")
    for number, group in enumerate(given):
        if isinstance(group, str) or not all(isinstance(text, str) for text in group):
            raise ValueError(f"the answers to `prompts[{number}]` must be a list of texts, got {group!r}.")
        if len(group) < 1 or n is not None and len(group) != n:
            raise ValueError(f"there are {len(group)} answers to `prompts[{number}]`, expected {n or 'at least one'}.")
    return [list(group) for group in given], None


def _score_answers(
    shared: CompletionScorer, prompts: Sequence[Prompt], answers: list[list[str]]
) -> list[list[RewardScore | None]]:
    """Of every answer that is not empty, in one call of the scorer."""
    asked = [(prompt, text) for prompt, group in zip(prompts, answers, strict=True) for text in group if text.strip()]
    scores = shared.score([prompt for prompt, _ in asked], [text for _, text in asked]) if asked else []
    remaining = iter(scores)
    grouped: list[list[RewardScore | None]] = []
    for group in answers:
        grouped.append([next(remaining) if text.strip() else None for text in group])
    return grouped


def _choose_best(
    prompt: Prompt,
    candidates: list[str],
    scores: list[RewardScore | None],
    cut: list[bool] | None,
    ranking: Ranking,
    part: slice,
) -> BestAnswer:
    keys = ranking.keys[part]
    index = int(np.argmax(keys))  # of equal ones the first
    return BestAnswer(
        prompt=prompt,
        answer=candidates[index],
        score=scores[index],
        index=index,
        candidates=candidates,
        scores=scores,
        cut=cut,
        eligible=ranking.eligible[part].tolist(),
        tied=int((keys == keys[index]).sum()),
    )
