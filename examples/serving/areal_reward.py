"""
A reward function for AReaL's RLVR workflow, with `urm serve` running:

    RLVRWorkflow(reward_fn="examples.serving.areal_reward.urm_reward", ...)

AReaL calls it in processes of its own, one answer at a time. After `timeout_seconds` it takes the reward for 0, so
leave it time enough for a full queue. The column `messages` of your rows, if there is one, is the prompt.
"""

import os

import requests

URL = os.environ.get("URM_URL", "http://127.0.0.1:8770") + "/reward"


def urm_reward(prompt, completions, prompt_ids, completion_ids, messages=None, **kwargs):
    answer = requests.post(URL, json={"prompt": messages or prompt, "response": completions}, timeout=600)
    if not answer.ok:  # what requests says would repeat the URL, and a token in it
        raise RuntimeError(f"urm serve: {answer.text}")
    return float(answer.json())
