"""The queue: who goes with whom, who waits, who fails alone."""

import threading
import time
from collections.abc import Sequence

import pytest

from urm_hf import RewardScore
from urm_hf.scoring.engine.prefixes import as_bytes
from urm_hf.scoring.scorer import NonFiniteScores
from urm_hf.serving.batching import BatchQueue, Job, NotFinite, PrefixCounter
from urm_hf.serving.metrics import Metrics
from urm_hf.serving.refusals import Refusal


class Gate:
    """
    Scores that are sums of ids. Until it is opened, the first step hangs, and everything else queues up behind it.

    Attributes:
        steps: the sequences of each step.
    """

    def __init__(self):
        self.steps: list[list[list[int]]] = []
        self.open = threading.Event()
        self.begun = threading.Event()
        self.fault: Exception | None = None

    def __call__(self, sequences: list[list[int]]) -> list[RewardScore]:
        self.steps.append([list(ids) for ids in sequences])
        self.begun.set()
        assert self.open.wait(30)
        if self.fault is not None and [666] in sequences:
            raise self.fault
        wrong = [place for place, ids in enumerate(sequences) if ids[0] == 13]
        if wrong:
            raise NonFiniteScores("not finite", row=wrong[0], indices=wrong)
        return [RewardScore(reward=float(sum(ids))) for ids in sequences]


class Bench:
    """A queue whose first step hangs until `finish`."""

    def __init__(self, limit: int, most: int = 10_000):
        self.gate, self.metrics = Gate(), Metrics()
        self.queue = BatchQueue(self.gate, lambda: limit, most, self.metrics, patience=0.001)
        self.queue.start()
        self.first = self.queue.submit([[1]])
        assert self.gate.begun.wait(30)

    def finish(self):
        self.gate.open.set()
        self.queue.close()

    @property
    def steps(self) -> list[list[list[int]]]:
        return self.gate.steps[1:]


def rewards(job: Job) -> list[float]:
    return [result["reward"] for result in job.future.result(timeout=30)]


def test_waiting_requests_go_together_first_in_first_out_until_the_limit():
    bench = Bench(limit=10)
    jobs = [bench.queue.submit([[10 * n + m for m in range(4)]]) for n in range(1, 6)]
    bench.finish()
    assert [len(step) for step in bench.steps] == [2, 2, 1]
    assert [ids[0] for step in bench.steps for ids in step] == [10, 20, 30, 40, 50]
    assert [rewards(job) for job in jobs] == [[40 * n + 6.0] for n in range(1, 6)]


def test_common_prefixes_count_once():
    bench = Bench(limit=110)
    prompt = list(range(100, 200))
    jobs = [bench.queue.submit([[*prompt, n]]) for n in range(1, 9)]
    bench.finish()
    assert [len(step) for step in bench.steps] == [8] and len(jobs) == 8
    counted = bench.metrics.registry.get_sample_value("urm_step_tokens_total")
    assert counted == 1 + 108


def test_those_that_share_the_oldest_ones_prefix_go_before_others():
    bench = Bench(limit=250)
    one, other = list(range(1000, 1200)), list(range(2000, 2200))
    for n in range(1, 4):
        bench.queue.submit([[*one, n]])
        bench.queue.submit([[*other, n]])
    bench.finish()
    assert [[ids[0] for ids in step] for step in bench.steps] == [[1000] * 3, [2000] * 3]
    assert [ids[-1] for step in bench.steps for ids in step] == [1, 2, 3, 1, 2, 3]


def test_a_request_larger_than_the_limit_goes_alone_and_whole():
    bench = Bench(limit=5)
    large = bench.queue.submit([[n] * 3 for n in range(20, 30)])
    small = bench.queue.submit([[7]])
    bench.finish()
    assert [len(step) for step in bench.steps] == [10, 1]
    assert rewards(large) == [3.0 * n for n in range(20, 30)] and rewards(small) == [7.0]


def test_those_whose_client_went_away_are_not_scored():
    bench = Bench(limit=100)
    gone, stays = bench.queue.submit([[5]]), bench.queue.submit([[6]])
    gone.gone = True
    bench.finish()
    assert bench.steps == [[[6]]] and rewards(stays) == [6.0] and not gone.future.done()
    assert bench.metrics.registry.get_sample_value("urm_dropped_requests_total") == 1
    assert bench.metrics.registry.get_sample_value("urm_queued_tokens") == 0


def test_rows_without_a_finite_reward_leave_the_others_theirs():
    bench = Bench(limit=100)
    jobs = [bench.queue.submit(ids) for ids in ([[2], [13, 1]], [[3]], [[13, 2]])]
    bench.finish()
    first, second, third = (job.future.result(timeout=30) for job in jobs)
    assert first[0]["reward"] == 2.0 and isinstance(first[1], NotFinite)
    assert second[0]["reward"] == 3.0 and isinstance(third[0], NotFinite)


def test_a_request_that_breaks_the_model_fails_alone():
    bench = Bench(limit=100)
    bench.gate.fault = RuntimeError("broken")
    jobs = [bench.queue.submit([ids]) for ids in ([2], [666], [3])]
    bench.finish()
    assert rewards(jobs[0]) == [2.0] and rewards(jobs[2]) == [3.0]
    assert jobs[1].future.result(timeout=30) == [bench.gate.fault]


def test_more_than_may_wait_is_told_to_come_again_and_is_let_in_later():
    bench = Bench(limit=100, most=10)
    waiting = bench.queue.submit([[4] * 8])
    with pytest.raises(Refusal, match="--max-queued-tokens") as refused:
        bench.queue.submit([[5] * 3])
    assert refused.value.status == 503 and refused.value.headers["Retry-After"] == "1"
    with pytest.raises(Refusal) as refused:
        bench.queue.submit([[5] * 11])
    assert refused.value.status == 413
    bench.gate.open.set()
    assert rewards(waiting) == [32.0]
    assert rewards(bench.queue.submit([[5] * 3])) == [15.0]
    bench.queue.close()


def test_closing_answers_what_waits_and_takes_nothing_more():
    bench = Bench(limit=1)
    jobs = [bench.queue.submit([[n]]) for n in range(2, 8)]
    closing = threading.Thread(target=bench.queue.close)
    closing.start()
    time.sleep(0.05)
    with pytest.raises(Refusal, match="stopping"):
        bench.queue.submit([[9]])
    bench.gate.open.set()
    closing.join()
    assert [rewards(job) for job in jobs] == [[float(n)] for n in range(2, 8)]
    assert not bench.queue.is_alive


@pytest.mark.parametrize(
    ("sequences", "distinct"),
    [
        ([[1, 2, 3], [1, 2, 4], [1, 2, 3]], 4),
        ([[1], [2], [1, 2], [2, 1]], 4),
        ([[5, 6, 7, 8], [5, 6], [9]], 5),
        ([[300, 1], [2, 300], [300, 2]], 5),
    ],
)
def test_distinct_tokens_are_those_of_a_prefix_tree(sequences: Sequence[list[int]], distinct: int):
    assert distinct == len({tuple(ids[:stop]) for ids in sequences for stop in range(1, len(ids) + 1)})
    counter = PrefixCounter()
    for ids in sequences:
        counter.add(as_bytes(ids))
    assert counter.distinct == distinct
