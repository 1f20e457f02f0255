"""The service behind the routes, with an engine that makes its own batches in place of a queue and a thread."""

import asyncio
from collections.abc import Sequence

from fastapi import Request

from urm_hf.serving.batching import Result
from urm_hf.serving.refusals import ClientGone
from urm_hf.serving.service import RewardService, wait_until_gone
from urm_hf.serving.settings import Settings
from urm_hf.serving.vllm.engine_scorer import EngineScorer


class EngineService(RewardService):
    """
    Args:
        scorer ([`EngineScorer`]): asks the engine.
        settings ([`Settings`]): what the server was told.

    Raises:
        ValueError: a measure that there is not, or that the model does not give.
    """

    # what is asked of a scorer outside of the queue, it answers as `RewardScorer` does
    scorer: EngineScorer  # type: ignore[assignment]

    def __init__(self, scorer: EngineScorer, settings: Settings):
        super().__init__(scorer, settings)  # type: ignore[arg-type]

    @property
    def is_alive(self) -> bool:
        """Whether conversations can be scored; vLLM's own /health tells of its engine."""
        return True

    def start(self):
        """The engine runs already."""

    def close(self):
        """Ends the threads that tokenise."""
        self._threads.shutdown()

    async def compute(self, sequences: Sequence[list[int]], request: Request) -> list[Result]:
        """The engine's scores; it forgets what a client that went away had asked for."""
        scored = asyncio.ensure_future(self.scorer.compute(sequences))
        gone = asyncio.ensure_future(wait_until_gone(request))
        try:
            await asyncio.wait({scored, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not scored.done():
                scored.cancel()
                self.metrics.dropped.inc()
                raise ClientGone
            results = scored.result()
        finally:
            gone.cancel()
        for ids, result in zip(sequences, results, strict=True):
            if isinstance(result, dict):
                self.cache.put(ids, result)
        return results
