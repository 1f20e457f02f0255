"""`urm judge` killed in the middle of requests: nothing that was answered is asked again, and not a byte differs."""

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.helpers.judge_runs import ROWS, read, run, write
from tests.helpers.programs import LIMIT, start


class Address:
    """As much of a judge as another process needs."""

    def __init__(self, url: str):
        self.url = url


def run_once(url: str, data: Path, out: str, concurrency: int):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"
    os._exit(run(Address(url), data, "--concurrency", concurrency, out=out))


PRELOADED = [__name__, "urm_hf.judge.job", "urm_hf.cli.judge"]


def kill_at(judge, number: int, *argv) -> int:
    """Runs until the judge has received so many requests, then kills the process before it answers the last."""
    arrived, killed = threading.Event(), threading.Event()
    already = len(judge.asked)

    def on_request(now: int):
        if now >= already + number:
            arrived.set()
            killed.wait(LIMIT)

    judge.on_request = on_request
    process = start(run_once, argv, PRELOADED)
    try:
        assert arrived.wait(LIMIT), "the process made fewer requests"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    finally:
        killed.set()
        judge.on_request = lambda now: None
    assert process.exitcode == -signal.SIGKILL
    return len(judge.asked) - already


@pytest.mark.slow
@pytest.mark.parametrize("concurrency", [1, 3])
def test_killed_at_any_request_the_same_command_gives_the_same_bytes(judge, tmp_path, concurrency):
    data = write(tmp_path / "pairs.jsonl", ROWS)
    run(judge, data, out="whole.jsonl")
    out, replies = tmp_path / "out.jsonl", tmp_path / "out.jsonl.replies" / "replies.jsonl"
    judge.asked.clear()
    for number in (1, 2, 5, 4):
        before = read(replies) if replies.is_file() else []
        sent = kill_at(judge, number, judge.url, data, out.name, concurrency)
        after = read(replies)
        assert after[: len(before)] == before and not out.exists()
        assert number - concurrency <= len(after) - len(before) <= sent
    finished = len(read(replies))
    judge.asked.clear()
    process = start(run_once, (judge.url, data, out.name, concurrency), PRELOADED)
    process.join()
    assert process.exitcode == 0 and len(judge.asked) == 2 * len(ROWS) - finished < 2 * len(ROWS)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    whole, resumed = ((tmp_path / name).read_bytes() for name in ("whole.summary.json", "out.summary.json"))
    assert whole == resumed


def test_a_process_that_is_killed_leaves_no_lock_behind(judge, tmp_path):
    data = write(tmp_path / "pairs.jsonl", ROWS)
    kill_at(judge, 2, judge.url, data, "out.jsonl", 1)
    assert run(judge, data, out="out.jsonl") == 0
