"""
A reward function for verl, with `urm serve` running: custom_reward_function.path=examples/serving/verl_reward.py

verl awaits it for all samples of a batch at once, and the server scores them together. The prompt has to stand in the
column `extra_info` of your data set, as `prompt`: text, or messages.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import requests

URL = os.environ.get("URM_URL", "http://127.0.0.1:8770") + "/reward?full=1"
THREADS = ThreadPoolExecutor(64)  # as many samples as wait for their reward at once


def ask(prompt, response):
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    answer = requests.post(URL, json={"prompt": messages, "response": response}, timeout=600)
    if not answer.ok:  # what requests says would repeat the URL, and a token in it
        raise RuntimeError(f"urm serve: {answer.text}")
    return answer.json()


async def compute_score(data_source, solution_str, ground_truth, extra_info):
    loop = asyncio.get_running_loop()
    scored = await loop.run_in_executor(THREADS, ask, extra_info["prompt"], solution_str)
    return {"score": scored["score"], **scored["logged"]}
