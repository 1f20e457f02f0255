"""
An environment of SkyRL that ends after one answer, whose reward `urm serve` gives. Before training starts:

    skyrl_gym.register(id="urm", entry_point="examples.serving.skyrl_environment:RewardEnv")

and `env_class` of your rows is "urm".
"""

import os

import requests
from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

URL = os.environ.get("URM_URL", "http://127.0.0.1:8770") + "/reward?full=1"


class RewardEnv(BaseTextEnv):
    def __init__(self, env_config=None, extras=None):
        super().__init__()

    def init(self, prompt):
        self.prompt = prompt
        return prompt, {}

    def step(self, action):
        answer = requests.post(URL, json={"prompt": self.prompt, "response": action}, timeout=600)
        if not answer.ok:  # what requests says would repeat the URL, and a token in it
            raise RuntimeError(f"urm serve: {answer.text}")
        scored = answer.json()
        return BaseTextEnvStepOutput(observations=[], reward=scored["score"], done=True, metadata=scored["logged"])
