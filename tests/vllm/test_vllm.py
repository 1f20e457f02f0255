"""
The plugin in vLLM itself: five starts of `urm serve --engine vllm`, numbers against `RewardScorer`. `make test-vllm`
runs this in an environment with vLLM; without it these tests fail.
"""

import copy
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import pytest
import requests
import torch
from safetensors.torch import load_file, save_file

from tests.helpers.adapters import save_adapter
from tests.helpers.chats import ROWS, render
from tests.helpers.heads_alone import save_heads, save_language_model
from tests.helpers.programs import LIMIT
from tests.helpers.tiny import random_rows, save_members, save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RemoteScorer, RewardScorer, URMEnsemble, URMForRewardModeling

TOKEN = "s3cret"
BROKEN = 250  # a token id whose embedding is infinite, and every reward after it NaN


def command_of(model: str, port: int) -> list[str]:
    command = [sys.executable, "-m", "urm_hf", "serve", model, "--engine", "vllm", "--port", str(port)]
    return [*command, "--vllm-arguments=--enforce-eager --max-num-seqs 16"]


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def environment() -> dict[str, str]:
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
    return dict(os.environ) | settings | {"URM_SERVE_TOKEN": TOKEN, "HF_HUB_OFFLINE": "1"}


@contextmanager
def running_vllm(model: str, log: Path) -> Iterator[str]:
    """The URL of a vLLM that serves a model, until the block ends."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with open(log, "w") as output:
        process = subprocess.Popen(command_of(model, port), stdout=output, stderr=output, env=environment())
        try:
            until = time.monotonic() + LIMIT
            while not answers(url):
                assert process.poll() is None, log.read_text()[-6000:]
                assert time.monotonic() < until, log.read_text()[-6000:]
                time.sleep(0.5)
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(LIMIT) == 0, log.read_text()[-6000:]
        finally:
            process.kill()
            process.wait(LIMIT)


def answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/ready", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def refused(model: str) -> str:
    """What a vLLM says that does not start."""
    command = command_of(model, free_port())
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=LIMIT, check=False)
    assert done.returncode != 0
    return done.stdout + done.stderr


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        expected = value if isinstance(value, (bool, int)) else close(value)
        assert found[name] == expected, name


def shared_members(folder: Path) -> list[str]:
    first = tiny_urm()
    with torch.no_grad():
        first.get_input_embeddings().weight[BROKEN] = float("inf")
    models = [first]
    for seed in (1, 2):
        models.append(tiny_urm(seed=seed))
        models[-1].model = copy.deepcopy(first.model)
    for seed, model in enumerate(models):
        generator = torch.Generator().manual_seed(seed)
        draws = [torch.rand(*shape, generator=generator) + 0.1 for shape in model.score._posterior_shapes(3)]
        draws[2] = torch.linalg.qr(draws[2])[0]
        model.score.set_posterior(*draws)
    return save_members(folder, models)


def conversations() -> list:
    """Short ones, long ones, and answers to one long prompt, whose keys and values are remembered."""
    prompt, *answers = ([min(token, BROKEN - 1) for token in row] for row in random_rows([300, 5, 60, 100]))
    return [*ROWS, *({"input_ids": row} for row in [prompt, *(prompt + answer for answer in answers)])]


def test_the_environment_has_vllm():
    assert version("vllm-cpu") or version("vllm")


def test_an_ensemble_on_one_backbone_over_http(tmp_path):
    folders = shared_members(tmp_path)
    ensemble = URMEnsemble.from_pretrained(folders, strategy="shared", aggregation="min")
    ensemble.standardize(torch.randn(3, 20, generator=torch.Generator().manual_seed(0)))
    ensemble.save_pretrained(tmp_path / "ensemble")
    wanted = RewardScorer(ensemble, tiny_tokenizer()).score(conversations())
    session = requests.Session()
    session.trust_env, session.headers["Authorization"] = False, f"Bearer {TOKEN}"
    with running_vllm(str(tmp_path / "ensemble"), tmp_path / "log") as url:
        for path in ("/v1/rewards", "/pooling", "/classify", "/get_reward", "/reward", "/v1/models", "/tokenize"):
            assert requests.post(url + path, json={}, timeout=60).status_code == 401, path
        scorer = RemoteScorer(url, TOKEN)
        for _ in range(2):  # with keys and values of prefixes, too
            for score, expected in zip(scorer.score(conversations()), wanted, strict=True):
                same(score, expected)
        named = session.post(f"{url}/pooling", json={"data": ROWS}, timeout=60).json()["data"]
        for found, expected in zip(named, wanted[:4], strict=True):
            assert found["reward"] == close(expected.reward)
            assert found["reward_gap"] == close(expected.reward_gap)
        text = render(tiny_tokenizer(), ROWS[0]).removesuffix("\n").removeprefix("<|bos|>")  # as frameworks send it
        classified = session.post(f"{url}/classify", json={"input": text, "use_activation": False}, timeout=60).json()
        assert classified["data"][-1]["probs"][-1] == close(wanted[0].reward)
        asked = {"query": [text], "prompts": [ROWS[0]["prompt"]], "labels": [""]}
        answer = session.post(f"{url}/get_reward", json=asked, timeout=60).json()
        assert answer["rewards"] == [close(wanted[0].reward)]
        body = {"prompt": ROWS[0]["prompt"], "response": ROWS[0]["response"], "label": ""}
        assert session.post(f"{url}/reward", json=body, timeout=60).json() == answer["rewards"][0]
        unknown = session.post(f"{url}/v1/rewards", json={"conversations": [{"input_ids": [5, 999]}]}, timeout=60)
        assert unknown.status_code == 422 and unknown.json()["error"]["row"] == 0
        unread = session.post(f"{url}/pooling", json={"data": [{"prompt": 7}]}, timeout=60)
        assert unread.status_code == 400 and "row 0" in unread.text
        broken = [*ROWS[:1], {"input_ids": [5, BROKEN, 6]}]
        unsound = session.post(f"{url}/pooling", json={"data": broken}, timeout=60)
        assert unsound.status_code == 400 and "row 1" in unsound.text and "not finite" in unsound.text
        unsound = session.post(f"{url}/v1/rewards", json={"conversations": broken}, timeout=60)
        assert unsound.status_code == 500 and unsound.json()["error"]["row"] == 1
        for score, expected in zip(scorer.score(conversations()), wanted, strict=True):  # as if nothing had been
            same(score, expected)
        counted = session.get(f"{url}/urm/metrics", timeout=60).text
        assert re.search(r'urm_repairs_total\{kind="ending",route="classify"\} 1\.0', counted)
    assert TOKEN not in (tmp_path / "log").read_text()


def test_an_ensemble_of_adapters_over_http(tmp_path):
    base = save_with_tokenizer(tiny_urm("qwen3", seed=7), tmp_path / "base")
    folders = []
    for seed in range(3):
        model = URMForRewardModeling.from_pretrained(base)
        folders.append(str(save_adapter(model, tmp_path / f"adapter-{seed}", seed)))
    rows = conversations()
    wanted = RewardScorer(URMEnsemble.from_pretrained(folders, strategy="shared"), tiny_tokenizer()).score(rows)
    with running_vllm(",".join(folders), tmp_path / "log") as url:
        for score, expected in zip(RemoteScorer(url, TOKEN).score(rows), wanted, strict=True):
            same(score, expected)


def test_heads_alone_over_http(tmp_path):
    base = save_language_model(tmp_path / "base", "qwen2")
    folders = [save_heads(base, tmp_path / str(seed), seed) for seed in range(2)]
    rows = conversations()
    wanted = RewardScorer(URMEnsemble.from_pretrained(folders, strategy="shared"), tiny_tokenizer()).score(rows)
    with running_vllm(",".join(folders), tmp_path / "log") as url:
        for score, expected in zip(RemoteScorer(url, TOKEN).score(rows), wanted, strict=True):
            same(score, expected)


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path):
    folder = Path(save_with_tokenizer(tiny_urm(), tmp_path / "urm"))
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.1.extra"] = torch.zeros(2)
    save_file(tensors, path, metadata={"format": "pt"})
    told = refused(str(folder))
    assert "missing: model.layers.1.mlp.up_proj.weight; unexpected: model.layers.1.extra" in told


def test_members_of_unlike_backbones_are_refused(tmp_path):
    folders = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(2)])
    told = refused(",".join(folders))
    assert "vLLM holds one backbone for all members." in told and "differ in model." in told


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
