"""
A task of verifiers 0.4, for prime-rl as well, whose reward `urm serve` gives: let your taskset's `load` return it.

    RewardTask(vf.TaskData(idx=0, prompt="Name a river."), config)

Rollouts are awaited many at once, and the server scores them together.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import requests
import verifiers.v1 as vf

URL = os.environ.get("URM_URL", "http://127.0.0.1:8770") + "/reward"
THREADS = ThreadPoolExecutor(64)  # as many rollouts as wait for their reward at once


def ask(messages):
    *before, last = [{"role": turn.role, "content": turn.content} for turn in messages]
    answer = requests.post(URL, json={"prompt": before, "response": last["content"] or ""}, timeout=600)
    if not answer.ok:  # what requests says would repeat the URL, and a token in it
        raise RuntimeError(f"urm serve: {answer.text}")
    return answer.json()


class RewardTask(vf.Task[vf.TaskData]):
    @vf.reward(weight=1.0)
    async def urm(self, trace: vf.Trace) -> float:
        return await asyncio.get_running_loop().run_in_executor(THREADS, ask, trace.messages)
