"""The examples of `urm serve` as their frameworks call them, against a server of tiny members."""

import asyncio
import importlib.util
import runpy
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.chats import ROWS
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


@pytest.fixture(scope="module")
def server(ensemble):
    with running_server(RewardScorer(ensemble, tiny_tokenizer())) as server:
        yield server


def test_verl_awaits_a_reward_with_its_uncertainty(server, monkeypatch):
    monkeypatch.setenv("URM_URL", server.url)
    spec = importlib.util.spec_from_file_location("verl_reward", EXAMPLES / "verl_reward.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)

    async def ask_all():
        return await asyncio.gather(
            *(
                example.compute_score("data", row["response"], None, extra_info={"prompt": row["prompt"], "index": 0})
                for row in ROWS
            )
        )

    for found, wanted in zip(asyncio.run(ask_all()), server.scorer.score(ROWS), strict=True):
        assert found["score"] == close(wanted.reward) and found["reward_gap"] == close(wanted.reward_gap)
        assert all(isinstance(value, float) for value in found.values())


def test_trl_trains_a_policy_on_the_rewards_of_a_server(server, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.02)).save_pretrained("start")
    tiny_tokenizer().save_pretrained("start")
    sizes = ["--max_steps", "1", "--num_generations", "4", "--per_device_train_batch_size", "4"]
    quick = ["--max_completion_length", "8", "--use_cpu", "--bf16", "false", "--report_to", "none"]
    files = ["--policy", "start", "--url", server.url, "--output_dir", "policy"]
    monkeypatch.setattr(sys, "argv", ["trl_grpo.py", *files, *sizes, *quick])
    before = server.count("urm_rows_total")
    names = runpy.run_path(str(EXAMPLES / "trl_grpo.py"), run_name="__main__")
    assert server.count("urm_rows_total") >= before + 4
    assert names["reward"].completions.scorer.url == server.url
