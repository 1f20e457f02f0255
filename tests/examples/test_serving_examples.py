"""The examples of `urm serve` as their frameworks call them, against a server of tiny members."""

import asyncio
import importlib.util
import json
import runpy
import sys
import types
from pathlib import Path

import aiohttp
import pytest
import torch
from pydantic import BaseModel, ConfigDict
from transformers import AutoModelForCausalLM

from tests.helpers.chats import ROWS, messages_of, render_prompt
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import RewardScorer

EXAMPLES = Path(__file__).parents[2] / "examples" / "serving"


@pytest.fixture(scope="module")
def server(ensemble):
    with running_server(RewardScorer(ensemble, tiny_tokenizer())) as server:
        yield server


def load(name: str, server, monkeypatch, **frameworks: dict):
    """An example as a module; of frameworks, which are not installed, only what it takes from them."""
    monkeypatch.setenv("URM_URL", server.url)
    for framework, content in frameworks.items():
        module = types.ModuleType(framework)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, framework.replace("__", "."), module)
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example


def test_swift_gets_a_reward_for_each_of_its_rows(server, monkeypatch):
    """Its trainers hand on the last messages, and the columns of their rows as lists."""
    orms = {}
    load("swift_reward", server, monkeypatch, swift={}, swift__rewards={"ORM": object, "orms": orms})
    rows = [messages_of(row) for row in ROWS]
    columns = {"messages": rows, "solution": ["x"] * len(rows), "trainer_state": None}
    found = orms["urm"](args=None)([turns[-1]["content"] for turns in rows], **columns)
    assert found == close([score.reward - 0.5 * score.reward_gap for score in server.scorer.score(ROWS)])


def test_a_refusal_is_told_in_the_servers_words_and_not_with_the_token(server, monkeypatch):
    reward = load("areal_reward", server, monkeypatch)
    reward.URL = reward.URL.replace("http://", "http://any:s3cret@")
    with pytest.raises(RuntimeError, match="is empty") as refused:
        reward.urm_reward("", "", [], [], messages=messages_of(ROWS[0])[:1])
    assert "s3cret" not in str(refused.value)


class OfAnyData:
    """In place of a generic class of verifiers."""

    def __class_getitem__(cls, data):
        return cls


def test_verifiers_awaits_the_reward_of_a_trace(server, monkeypatch):
    """Which holds the prompt and what the policy answered, as objects with a role and a content."""
    vf = {"Task": OfAnyData, "TaskData": dict, "Trace": object, "reward": lambda weight: lambda function: function}
    task = load("verifiers_taskset", server, monkeypatch, verifiers={}, verifiers__v1=vf).RewardTask()
    traces = []
    for row in ROWS:
        turns = [types.SimpleNamespace(**turn, reasoning_content=None) for turn in messages_of(row)]
        traces.append(types.SimpleNamespace(messages=turns))

    async def ask_all():
        return await asyncio.gather(*map(task.urm, traces))

    assert asyncio.run(ask_all()) == close([score.reward for score in server.scorer.score(ROWS)])


def gym_message(text: str) -> dict:
    """What a policy answered, as NeMo Gym's model server for training gives it, dumped by pydantic."""
    content = {"annotations": [], "text": text, "type": "output_text", "logprobs": None}
    message = {"id": "msg_1", "content": [content], "role": "assistant", "status": "completed", "type": "message"}
    return message | {"prompt_token_ids": [1, 2], "generation_token_ids": [3], "generation_log_probs": [-0.5]}


def gym_request(row: dict[str, str], answer: str) -> dict:
    """The body that its agents post to /verify: the row, its extra columns, and the response."""
    turn = {"content": row["prompt"], "role": "user", "type": "message"}
    unset = dict.fromkeys(("background", "include", "instructions", "max_output_tokens", "metadata", "temperature"))
    params = {"input": [turn], **unset, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    thought = {"id": "rs_1", "summary": [], "type": "reasoning", "encrypted_content": None}
    response = {"id": "resp_1", "created_at": 1.0, "error": None, "incomplete_details": None, "instructions": None}
    response |= {"model": "policy", "object": "response", "output": [thought, gym_message(answer)], "tools": []}
    response |= {"parallel_tool_calls": True, "tool_choice": "auto", "usage": None, "user": None}
    return {"responses_create_params": params, "response": response, "expected_answer": "x"}


class GymRequest(BaseModel):
    responses_create_params: dict
    response: dict


class GymResponse(GymRequest):
    model_config = ConfigDict(extra="allow")
    reward: float
    mask_sample: bool = False
    reward_components: dict[str, float]


async def gym_post(method: str, url: str, **told) -> tuple[int, bytes]:
    """NeMo Gym's one way to ask anything: aiohttp, compact JSON, no header but its type."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        data = json.dumps(told["json"], separators=(",", ":"), ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json"}
        async with session.request(method=method, url=url, data=data, headers=headers) as answer:
            return answer.status, await answer.read()


async def gym_raise(answer: tuple[int, bytes]):
    assert answer[0] == 200, answer


async def gym_read(answer: tuple[int, bytes]) -> dict:
    return json.loads(answer[1])


def test_nemo_gym_gets_a_reward_with_its_parts(server, monkeypatch):
    base = {"BaseVerifyRequest": GymRequest, "BaseVerifyResponse": GymResponse, "SimpleResourcesServer": object}
    utilities = {"get_response_json": gym_read, "raise_for_status": gym_raise, "request": gym_post}
    packages = {"nemo_gym": {}, "nemo_gym__base_resources_server": base, "nemo_gym__server_utils": utilities}
    example = load("nemo_gym_server", server, monkeypatch, **packages)

    async def verify_all():
        # as a policy stops: with its end-of-turn token, which the chat template writes as well
        bodies = [gym_request(row, row["response"] + server.scorer.tokenizer.eos_token) for row in ROWS]
        requests = map(example.RewardRequest.model_validate, bodies)
        return bodies, await asyncio.gather(*map(example.RewardServer().verify, requests))

    bodies, answers = asyncio.run(verify_all())
    for body, answer, wanted in zip(bodies, answers, server.scorer.score(ROWS), strict=True):
        assert answer.reward == close(wanted.reward) and answer.mask_sample is False
        assert answer.reward_components["reward_gap"] == answer.reward_gap == close(wanted.reward_gap)
        assert answer.model_dump().items() >= body.items()  # its own columns come back


def test_skyrl_ends_an_episode_with_the_reward(server, monkeypatch):
    base = {"BaseTextEnv": object, "BaseTextEnvStepOutput": dict}
    packages = {"skyrl_gym": {}, "skyrl_gym__envs": {}, "skyrl_gym__envs__base_text_env": base}
    example = load("skyrl_environment", server, monkeypatch, **packages)
    for row, score in zip(ROWS, server.scorer.score(ROWS), strict=True):
        environment = example.RewardEnv(env_config=None, extras={"reward_spec": {}})
        assert environment.init(messages_of(row)[:1])[1] == {}
        step = environment.step(row["response"] + server.scorer.tokenizer.eos_token)
        assert step["reward"] == close(score.reward) and step["done"] is True and step["observations"] == []
        assert step["metadata"]["reward_gap"] == close(score.reward_gap)


@pytest.mark.parametrize("column", [True, False], ids=["messages", "text"])
def test_areal_sends_decoded_ids(server, monkeypatch, column):
    reward, tokenizer = load("areal_reward", server, monkeypatch).urm_reward, server.scorer.tokenizer
    for row, score in zip(ROWS, server.scorer.score(ROWS), strict=True):
        text, answer = render_prompt(tokenizer, row), row["response"] + tokenizer.eos_token
        data = {"messages": messages_of(row)[:1]} if column else {}
        assert reward(text, answer, tokenizer(text)["input_ids"], [1], answer="x", **data) == close(score.reward)


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
