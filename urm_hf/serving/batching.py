"""
Batches across requests: one thread scores, and each of its steps takes as many waiting requests as fit.

Reinforcement learning sends one conversation a request, many at once. What a step takes: the request that waits
longest, then those that share its prefix (tokens that cost nothing more), then in the same way the next that waits.
"""

import logging
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from urm_hf.data.errors import RowError
from urm_hf.scores import RewardScore
from urm_hf.scoring.engine.prefixes import as_bytes, count_common
from urm_hf.scoring.remote import NOT_FINITE
from urm_hf.scoring.scorer import NonFiniteScores
from urm_hf.serving.metrics import Metrics
from urm_hf.serving.refusals import Refusal

logger = logging.getLogger(__name__)

PATIENCE = 0.003  # seconds that a request waits for company, where it would be alone
LEAST_SHARED = 64  # tokens; shorter common prefixes, such as those of a template, do not reorder requests

Result: TypeAlias = RewardScore | Exception
Score: TypeAlias = Callable[[list[list[int]]], list[RewardScore]]


@dataclass(eq=False)
class Job:
    """
    What one request waits for.

    Args:
        sequences (`list[list[int]]`): the ids of its conversations.
        future (`Future`): becomes a `list[RewardScore | Exception]`, one for each of them.
        gone (`bool`): whether its client went away.
    """

    sequences: list[list[int]]
    future: "Future[list[Result]]" = field(default_factory=Future)
    gone: bool = False

    def __post_init__(self):
        self.tokens = sum(map(len, self.sequences))  # each conversation counted by itself

    @cached_property
    def keys(self) -> list[bytes]:
        """The sequences as bytes that sort as they do; made where they are needed first, in the scoring thread."""
        return [as_bytes(ids) for ids in self.sequences]


class PrefixCounter:
    """Counts tokens of sequences that are added one by one, those of common prefixes once."""

    def __init__(self):
        self.distinct = 0
        self._keys: list[bytes] = []

    def add(self, key: bytes):
        """Counts what a sequence, as `as_bytes` gives it, does not share with those before."""
        place = bisect_left(self._keys, key)
        # in lexicographic order nothing shares more with a sequence than its two neighbors
        neighbors = self._keys[max(0, place - 1) : place + 1]
        self.distinct += len(key) // 4 - max((count_common(key, other) for other in neighbors), default=0)
        self._keys.insert(place, key)


def order_jobs(waiting: Sequence[Job]) -> Iterator[Job]:
    """
    Waiting jobs in the order in which steps take them: the oldest, then those that share half of themselves with it;
    of the others again the oldest, and so on.

    Args:
        waiting (`Sequence[Job]`): the oldest first.
    """
    left = list(waiting)
    while left:
        lead, *others = left
        yield lead
        left = []
        for job in others:
            key = job.keys[0]
            half = len(key) // 8 * 4
            if half >= 4 * LEAST_SHARED and lead.keys[0].startswith(key[:half]):
                yield job
            else:
                left.append(job)


class BatchQueue:
    """
    Args:
        score (`Callable`): scores of N sequences; raises [`NonFiniteScores`] for those without a finite reward.
        limit (`Callable`): how many distinct tokens a step holds; asked each time, for memory may lower it.
        max_queued_tokens (`int`): tokens that may wait.
        metrics ([`Metrics`]): where steps are counted.
        patience (`float`, *optional*): seconds that a request waits for company.
    """

    def __init__(
        self,
        score: Score,
        limit: Callable[[], int],
        max_queued_tokens: int,
        metrics: Metrics,
        patience: float = PATIENCE,
    ):
        self.score, self.limit, self.max_queued_tokens = score, limit, max_queued_tokens
        self.metrics, self.patience = metrics, patience
        self._jobs: list[Job] = []
        self._waiting = 0  # tokens of these jobs
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="urm-scoring", daemon=True)

    def start(self):
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the scoring thread runs."""
        return self._thread.is_alive()

    def submit(self, sequences: list[list[int]]) -> Job:
        """
        Puts a request in the queue.

        Raises:
            Refusal: too many tokens wait, or the server is closing.
        """
        job = Job(sequences)
        if job.tokens > self.max_queued_tokens:
            told = f"the request has {job.tokens} tokens, more than may wait at once ({self.max_queued_tokens})"
            raise Refusal(413, f"{told}: send fewer conversations at once, or raise --max-queued-tokens.")
        with self._changed:
            if self._closed:
                raise Refusal(503, "the server is stopping: ask another one.", headers={"Retry-After": "5"})
            if self._waiting + job.tokens > self.max_queued_tokens:
                told = f"{self._waiting} tokens wait to be scored, and no more than {self.max_queued_tokens} may"
                raise Refusal(503, f"{told}: ask again, or raise --max-queued-tokens.", headers={"Retry-After": "1"})
            self._jobs.append(job)
            self._count(job.tokens)
            self._changed.notify()
        return job

    def close(self):
        """Scores what waits, and ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self):
        while (step := self._wait_for_step()) is not None:
            if not step:
                continue
            try:
                self._score_step(step)
            except BaseException as error:  # the thread must outlive any step, or nobody is ever answered again
                logger.error("a step failed: %s", type(error).__name__)
                for job in step:
                    if not job.future.done():
                        job.future.set_exception(RuntimeError(f"scoring failed ({type(error).__name__})"))

    def _wait_for_step(self) -> list[Job] | None:
        """The requests of the next step, maybe none; None when the queue is closed and empty."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            if not self._jobs:
                return None
            # others that were sent at the same moment are just being tokenised
            if len(self._jobs) == 1 and not self._closed:
                self._changed.wait(self.patience)
            gone = [job for job in self._jobs if job.gone]
            waiting = [job for job in self._jobs if not job.gone]
        step = self._choose(waiting)
        with self._changed:
            for job in [*gone, *step]:
                self._jobs.remove(job)
                self._count(-job.tokens)
        self.metrics.dropped.inc(len(gone))
        return step

    def _choose(self, waiting: list[Job]) -> list[Job]:
        """Those of the waiting jobs, oldest first, that the next step takes."""
        if not waiting:
            return []
        limit, counter = self.limit(), PrefixCounter()
        step: list[Job] = []
        tokens = 0
        for job in order_jobs(waiting):
            for key in job.keys:
                if step and counter.distinct > limit:
                    break
                counter.add(key)
            if step and counter.distinct > limit:
                break
            step.append(job)
            tokens = counter.distinct
        self.metrics.steps.inc()
        self.metrics.step_requests.inc(len(step))
        self.metrics.step_tokens.inc(tokens)
        return step

    def _count(self, tokens: int):
        self._waiting += tokens
        self.metrics.queued_tokens.set(self._waiting)

    def _score_step(self, step: list[Job]):
        sequences = [ids for job in step for ids in job.sequences]
        try:
            results = self._score_rows(sequences)
        except Exception as error:
            if len(step) > 1:  # one of them is at fault, and alone it fails alone
                for job in step:
                    self._score_step([job])
                return
            # torch's own messages may be long, and quote shapes and files; which kind of fault it was is enough
            logger.error("a request cannot be scored: %s", type(error).__name__)
            results = [error] * len(sequences)
        start = 0
        for job in step:
            job.future.set_result(results[start : start + len(job.sequences)])
            start += len(job.sequences)

    def _score_rows(self, sequences: list[list[int]]) -> list[Result]:
        """A score for each of the sequences, and an error for those whose reward is not finite."""
        try:
            return list(self.score(sequences))
        except NonFiniteScores as error:
            wrong = set(error.indices)  # the scorer has made sure of each that it is at fault itself
        results: list[Result] = [NotFinite() for _ in sequences]
        sound = [place for place in range(len(sequences)) if place not in wrong]
        if sound:
            for place, result in zip(sound, self._score_rows([sequences[p] for p in sound]), strict=True):
                results[place] = result
        return results


class NotFinite(RowError):
    """A conversation whose reward is not finite."""

    def __init__(self):
        super().__init__(f"{NOT_FINITE}.")
