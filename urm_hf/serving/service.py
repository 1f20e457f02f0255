"""Scores for requests: tokenised in threads of their own, found in the cache or scored with the others that wait."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from fastapi import Request

from urm_hf.data.chat_templates import SHORT
from urm_hf.data.errors import RowError
from urm_hf.scores import RewardScore, has_posterior
from urm_hf.scoring.engine.devices import execution_device
from urm_hf.scoring.engine.model_pass import TOKENS_ON_CPU, TOKENS_ON_GPU
from urm_hf.scoring.scorer import RewardScorer
from urm_hf.serving.batching import BatchQueue, Result
from urm_hf.serving.cache import ScoreCache
from urm_hf.serving.memory import SECONDS_BETWEEN, bound_words, trim_memory
from urm_hf.serving.metrics import Metrics
from urm_hf.serving.refusals import ClientGone, Refusal
from urm_hf.serving.repair import TextRepair
from urm_hf.serving.rows import Rows, build_encoder
from urm_hf.serving.settings import Settings
from urm_hf.uncertainty.measures import MEASURES, compute_uncertainty

logger = logging.getLogger(__name__)

T = TypeVar("T")
TOKENISERS = 2  # threads that read and tokenise: more would only take turns at Python's lock


class RewardService:
    """
    A model, and what stands between it and the requests of many clients.

    Args:
        scorer ([`RewardScorer`]): the model.
        settings ([`Settings`]): what the server was told.

    Raises:
        ValueError: a measure that there is not, or that the model does not give.
    """

    def __init__(self, scorer: RewardScorer, settings: Settings):
        self.scorer, self.settings = scorer, settings
        self.is_ensemble = hasattr(scorer.model.config, "members")
        check_measure(
            settings.measure,
            settings.coefficient,
            has_stds=scorer.attributes is not None,
            is_ensemble=self.is_ensemble,
            has_posterior=has_posterior(scorer.model),
        )
        bound_words(scorer.tokenizer)
        self.encoder = build_encoder(scorer)
        self.repair = TextRepair(scorer.tokenizer)
        self.metrics = Metrics()
        self.cache = ScoreCache()
        self.queue = BatchQueue(self._score_ids, self._count_step_tokens, settings.max_queued_tokens, self.metrics)
        self.example: dict[str, Any] = {}  # the fields that the model's scores have
        self._trimmed = time.monotonic()
        self._threads = ThreadPoolExecutor(TOKENISERS, thread_name_prefix="urm-tokenising")

    def learn_fields(self):
        """Scores a short conversation: what its score has, all have."""
        with suppress(ValueError):  # of a model that scores nothing, which /ready tells
            (score,) = self.scorer.score([SHORT if self.scorer.tokenizer.chat_template else SHORT[-1]["content"]])
            self.example = dict(score)

    @property
    def is_alive(self) -> bool:
        """Whether conversations can be scored."""
        return self.queue.is_alive

    def start(self):
        """Begins to score."""
        self.queue.start()

    def close(self):
        """Scores what waits, and ends all threads."""
        self.queue.close()
        self._threads.shutdown()

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """What a function gives that would hold up the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    async def score(self, rows: Rows, request: Request) -> list[RewardScore | RowError]:
        """
        A score for each row, or what is wrong with it.

        Args:
            rows ([`Rows`]): what was read of the request.
            request (`Request`): its client may go away meanwhile.

        Raises:
            Refusal: too much waits already, or the model failed.
            ClientGone: nobody waits for the scores any more.
        """
        known: dict[int, Any] = dict(rows.errors)
        for number, ids in enumerate(rows.ids):
            if number not in known and (score := self.cache.get(ids)) is not None:
                known[number] = score
                self.metrics.cached.inc()
        asked = [number for number in range(len(rows.ids)) if number not in known]
        if asked:
            computed = await self.compute([rows.ids[number] for number in asked], request)
            for number, result in zip(asked, computed, strict=True):
                known[number] = result
        results = [known[number] for number in range(len(rows.ids))]
        broken = next((result for result in results if not isinstance(result, (RewardScore, RowError))), None)
        if broken is not None:
            told = f"the model failed ({type(broken).__name__}); the server goes on, and its log names the fault."
            raise Refusal(500, told)
        self.metrics.rows.inc(sum(isinstance(result, RewardScore) for result in results))
        return [
            RewardScore(**(dict(result) | {"truncated": cut})) if isinstance(result, RewardScore) else result
            for result, cut in zip(results, rows.cut, strict=True)
        ]

    def penalise(self, score: RewardScore) -> float:
        """The reward that frameworks get: less `coefficient` times the measure, where there is one."""
        reward = float(score["reward"])
        if self.settings.measure is None:
            return reward
        (uncertainty,) = compute_uncertainty([score], self.settings.measure).tolist()
        return reward - self.settings.coefficient * uncertainty

    def _score_ids(self, sequences: list[list[int]]) -> list[RewardScore]:
        """Scores, kept where they are made: a client that gave up will ask for them again."""
        scores = self.scorer.score_ids(sequences)
        if time.monotonic() - self._trimmed > SECONDS_BETWEEN:
            trim_memory()
            self._trimmed = time.monotonic()
        for ids, score in zip(sequences, scores, strict=True):
            self.cache.put(ids, score)
        return scores

    async def compute(self, sequences: list[list[int]], request: Request) -> list[Result]:
        """
        A score for each sequence of token ids that is not remembered, or what is wrong with it.

        Args:
            sequences (`list[list[int]]`): what the encoder gave.
            request (`Request`): its client may go away meanwhile.

        Raises:
            Refusal, ClientGone: as of `score`.
        """
        job = self.queue.submit(sequences)
        scored = asyncio.wrap_future(job.future)
        gone = asyncio.ensure_future(wait_until_gone(request))
        try:
            await asyncio.wait({scored, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not scored.done():
                job.gone = True  # the scoring thread leaves it out, unless it has begun
                raise ClientGone
            return scored.result()
        finally:
            gone.cancel()

    def _count_step_tokens(self) -> int:
        """How many distinct tokens a step takes: what passes the model at once."""
        on_cpu = execution_device(self.scorer.model).type == "cpu"
        return self.scorer.max_tokens_per_batch or (TOKENS_ON_CPU if on_cpu else TOKENS_ON_GPU)


async def wait_until_gone(request: Request):
    """Returns when the client of a request that was read has gone away."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def check_measure(measure: str | None, coefficient: float, has_stds: bool, is_ensemble: bool, has_posterior: bool):
    """
    Args:
        measure (`str`, *optional*): what rewards are to pay for.
        coefficient (`float`): how much.
        has_stds (`bool`): whether the model is a URM or an ensemble.
        is_ensemble (`bool`): whether it has members.
        has_posterior (`bool`): whether it is a URM with a posterior.

    Raises:
        ValueError: the model does not give the measure, or the coefficient is out of range.
    """
    if not 0 <= coefficient < float("inf"):
        raise ValueError(f"`coefficient` must be finite and not negative, got {coefficient}.")
    if measure is None:
        return
    if measure not in MEASURES:
        raise ValueError(f"`measure` must be one of {', '.join(MEASURES)}, got {measure!r}.")
    if not has_stds:
        raise ValueError(f"`measure` {measure!r} needs a URM or an ensemble; this model gives no uncertainty.")
    if MEASURES[measure].needs_ensemble and not is_ensemble:
        raise ValueError(f"`measure` {measure!r} compares members; serve an ensemble, or take reward_std.")
    if MEASURES[measure].needs_epistemic and not is_ensemble and not has_posterior:
        raise ValueError(
            f"`measure` {measure!r} needs an ensemble or a URM with a posterior (`urm posterior`); or take reward_std."
        )
