"""What a server keeps of requests does not grow with them."""

from concurrent.futures import ThreadPoolExecutor

import psutil

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer
from urm_hf.serving.memory import WORDS, trim_memory
from urm_hf.serving.service import RewardService
from urm_hf.serving.settings import Settings


def measure_memory() -> float:
    """Megabytes of this process alone."""
    trim_memory()
    return psutil.Process().memory_full_info().uss / 2**20


def test_a_tokenizer_that_takes_texts_for_words_does_not_remember_them_all():
    # bytes without spaces: a word each, of a token a byte, for which the library keeps 32 bytes
    service = RewardService(RewardScorer(tiny_urm(), tiny_tokenizer()), Settings())
    tokenizer = service.scorer.tokenizer
    length, texts = 250, 4 * WORDS
    bound = WORDS * 32 * length / 2**20

    def tokenise() -> float:
        before = measure_memory()
        for number in range(texts):
            assert len(tokenizer(f"{number:x<{length}}")["input_ids"]) == length
        return measure_memory() - before

    with ThreadPoolExecutor(1) as thread:  # each has a memory of its own
        grown = thread.submit(tokenise).result()
    assert grown < 2 * bound, f"{grown:.0f} MB, where {WORDS} words take {bound:.0f} MB"
