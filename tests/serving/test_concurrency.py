"""Many clients at once: every request is answered once, with its own rewards, and bad ones disturb nobody."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.helpers.chats import render
from urm_hf import RewardScorer

REQUESTS, THREADS = 400, 64


def question(number: int) -> dict[str, str]:
    return {
        "prompt": f"What is {number // 4} times {number // 4}?",
        "response": f"Answer {number}." * (number % 5 + 1),
    }


@pytest.fixture(scope="module")
def sessions(server):
    """A connection for each thread, as frameworks keep them."""
    local = threading.local()

    def session() -> requests.Session:
        if not hasattr(local, "session"):
            local.session = requests.Session()
            local.session.trust_env = False
        return local.session

    return session


def wanted_rewards(scorer: RewardScorer) -> list[float]:
    return [score.reward for score in scorer.score([question(number) for number in range(REQUESTS)])]


def test_none_is_lost_doubled_or_given_to_another(server, sessions):
    wanted = wanted_rewards(server.scorer)
    tokenizer = server.scorer.tokenizer
    before = sum(server.count("urm_requests_total", route=route, status="200") for route in ("rewards", "openrlhf"))
    steps = server.count("urm_steps_total")

    def ask(number: int) -> float | int:
        row = question(number)
        if number % 10 == 3:  # malformed in one of several ways
            path, body = random.Random(number).choice(
                [
                    ("/v1/rewards", {"conversations": [{"prompt": "x", "response": ""}]}),
                    ("/v1/rewards", {"conversations": [{"input_ids": [10**6]}]}),
                    ("/get_reward", {"query": ["x" * 5000]}),
                    ("/reward", {"prompt": "x"}),
                ]
            )
            return sessions().post(server.url + path, json=body, timeout=60).status_code
        if number % 2:
            body = {"conversations": [row]}
            answer = sessions().post(server.url + "/v1/rewards", json=body, timeout=60)
            return answer.json()["data"][0]["reward"]
        body = {"query": [render(tokenizer, row)[:-1]]}
        return sessions().post(server.url + "/get_reward", json=body, timeout=60).json()["rewards"][0]

    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(ask, range(REQUESTS)))
    for number, (reward, expected) in enumerate(zip(found, wanted, strict=True)):
        assert reward == 422 if number % 10 == 3 else reward == pytest.approx(expected, abs=1e-4)
    good = sum(number % 10 != 3 for number in range(REQUESTS))
    after = sum(server.count("urm_requests_total", route=route, status="200") for route in ("rewards", "openrlhf"))
    assert after - before == good
    assert server.count("urm_queued_tokens") == 0
    assert server.count("urm_steps_total") - steps < good / 2  # they did go together
