"""`--replicas`: what Ray Serve is asked for, and with Ray Serve two copies behind one port."""

import argparse
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import requests

from tests.helpers.chats import ROWS
from tests.helpers.programs import LIMIT
from tests.helpers.tolerances import close
from urm_hf import RewardScorer
from urm_hf.cli import main
from urm_hf.serving.replicas import Replica, check_resources, run_replicas
from urm_hf.serving.server import open_socket


def test_ray_serve_is_asked_for_copies_that_load_the_model_themselves(monkeypatch):
    asked = SimpleNamespace()

    def deployment(**settings):
        asked.settings = settings
        return lambda ingress: SimpleNamespace(bind=lambda: ingress)

    def run(application, **settings):
        asked.application, asked.name = application, settings["name"]

    serve = SimpleNamespace(
        deployment=deployment,
        ingress=lambda build: lambda replica: (replica, build()),
        run=run,
        start=lambda **settings: vars(asked).update(settings),
        shutdown=lambda: vars(asked).update(shut=True),
        schema=SimpleNamespace(LoggingConfig=argparse.Namespace),
    )
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(serve=serve, cluster_resources=lambda: {"GPU": 3.0}))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.getsignal(signal.SIGTERM)
    run_replicas(lambda: "app", 3, "127.0.0.1", 8770, 1, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert asked.application == (Replica, "app") and asked.shut and asked.name == "urm"
    assert asked.settings["num_replicas"] == 3 and asked.settings["ray_actor_options"]["num_gpus"] == 1
    assert asked.http_options == {"host": "127.0.0.1", "port": 8770}
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("resources", "gpus", "told"),
    [
        ({"CPU": 2.0}, 0, "--replicas 3 needs 3 CPUs, and there are 2: ask for fewer"),
        ({"CPU": 8.0, "GPU": 2.0}, 1, "--replicas 3 needs 3 GPUs, and there are 2: ask for fewer"),
        ({"CPU": 8.0}, 1, "--replicas 3 needs 3 GPUs, and there are 0: ask for fewer"),
    ],
)
def test_more_copies_than_there_is_room_for_are_told(resources, gpus, told):
    with pytest.raises(ValueError, match=told):
        check_resources(resources, 3, gpus)
    check_resources({name: 3.0 for name in resources}, 3, 0)


def test_without_ray_serve_the_extra_is_named(monkeypatch, saved_urm, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["serve", saved_urm, "--replicas", "2", "--port", "0"]) != 0
    assert "pip install 'urm-hf[replicas]'" in capsys.readouterr().err


def test_replicas_of_vllm_are_its_own(saved_urm, capsys):
    assert main(["serve", saved_urm, "--replicas", "2", "--engine", "vllm"]) == 2
    assert "--data-parallel-size" in capsys.readouterr().err
    assert main(["serve", saved_urm, "--replicas", "0"]) == 2
    assert "--replicas must be positive, got 0." in capsys.readouterr().err


@pytest.mark.slow
def test_two_copies_answer_behind_one_port(saved_urm):
    pytest.importorskip("ray.serve", reason="Ray Serve is not installed", exc_type=ImportError)
    with open_socket("127.0.0.1", 0) as opened:
        port = opened.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "urm_hf", "serve", saved_urm, "--replicas", "2", "--port", str(port)]
    process = subprocess.Popen(command, env=os.environ | {"URM_SERVE_TOKEN": "s3cret", "NO_PROXY": "127.0.0.1"})
    try:
        until = time.monotonic() + LIMIT
        while True:
            try:
                if requests.get(f"{url}/ready", timeout=10).status_code == 200:
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.5)
        assert requests.post(f"{url}/v1/rewards", json={}, timeout=60).status_code == 401
        wanted = [score.reward for score in RewardScorer(saved_urm).score(ROWS)]
        for _ in range(8):
            answer = requests.post(
                f"{url}/v1/rewards", json={"conversations": ROWS}, auth=("any", "s3cret"), timeout=60
            )
            assert [row["reward"] for row in answer.json()["data"]] == close(wanted)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.wait(LIMIT)
