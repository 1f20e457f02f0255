"""Scores of token ids that were scored before: frameworks ask again when an answer got lost."""

import hashlib
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from urm_hf.scores import RewardScore


class ScoreCache:
    """
    The scores of the ids that were asked for last; used by several threads.

    Args:
        size (`int`, *optional*, defaults to 8192): how many scores are kept, some kilobytes each.
    """

    def __init__(self, size: int = 8192):
        self.size = size
        self._scores: OrderedDict[bytes, RewardScore] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ids: Sequence[int]) -> RewardScore | None:
        """The score of exactly these ids, or None."""
        key = _digest(ids)
        with self._lock:
            score = self._scores.get(key)
            if score is not None:
                self._scores.move_to_end(key)
            return score

    def put(self, ids: Sequence[int], score: RewardScore):
        """Keeps a score; the one that was asked for longest ago makes room."""
        key = _digest(ids)
        with self._lock:
            self._scores[key] = score
            self._scores.move_to_end(key)
            while len(self._scores) > self.size:
                self._scores.popitem(last=False)


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()
