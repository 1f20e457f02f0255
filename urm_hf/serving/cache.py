"""Scores of token ids that were scored before: frameworks ask again when an answer got lost."""

import hashlib
import pickle
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from urm_hf.scores import RewardScore


class ScoreCache:
    """
    The scores of the ids that were asked for last; used by several threads.

    Args:
        size (`int`, *optional*, defaults to 8192): how many scores are kept, less than a kilobyte each: as bytes, for
            as objects they take six times that, and a server would grow for as long as it fills up.
    """

    def __init__(self, size: int = 8192):
        self.size = size
        self._scores: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ids: Sequence[int]) -> RewardScore | None:
        """The score of exactly these ids, or None."""
        key = _digest(ids)
        with self._lock:
            written = self._scores.get(key)
            if written is None:
                return None
            self._scores.move_to_end(key)
        return RewardScore(**pickle.loads(written))

    def put(self, ids: Sequence[int], score: RewardScore):
        """Keeps a score; the one that was asked for longest ago makes room."""
        key, written = _digest(ids), pickle.dumps(dict(score))
        with self._lock:
            self._scores[key] = written
            self._scores.move_to_end(key)
            while len(self._scores) > self.size:
                self._scores.popitem(last=False)


def _digest(ids: Sequence[int]) -> bytes:
    return hashlib.blake2b(array("q", ids).tobytes(), digest_size=16).digest()
