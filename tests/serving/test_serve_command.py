"""The command: what it refuses before it loads a model, what it says, and how it stops."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.helpers.chats import ROWS
from tests.helpers.programs import LIMIT
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer
from urm_hf.cli import main
from urm_hf.cli.serve import build_parser, warn_of_untrained_gates
from urm_hf.hub.folder import SCORES
from urm_hf.hub.reference import reference_scores


def start(*arguments: str, **environment: str) -> tuple[subprocess.Popen, str]:
    """A server in a process of its own, and where it is."""
    command = [sys.executable, "-m", "urm_hf", "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | environment)
    lines = []
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r"at (http://\S+),", line):
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return process, found[1]
    raise AssertionError("".join(lines))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "0.0.0.0"], "--host '0.0.0.0' is reached from other machines, and there is no token: set"),
        (["--token-file", "absent"], "--token-file 'absent' cannot be read (No such file or directory)"),
        (["--token-file", "."], "--token-file '.' cannot be read (Is a directory): name the file"),
        (["--max-rows", "0"], "--max-rows must be positive, got 0."),
        (["--max-body-mb", "-1"], "--max-body-mb must be positive, got -1."),
        (["--unscorable", "nan"], "--unscorable must be a finite number or \"error\", got 'nan'."),
        (["--port", "99999"], "--port must lie between 0 and 65535, got 99999."),
        (["--host", "192.0.2.1", "--no-auth"], "Take a name or address of this machine"),
        (["--host", "no host", "--no-auth"], "Take a name or address of this machine"),
        (["--measure", "doubt"], "--measure must be one of"),
        (["--port", "0", "--measure", "reward_gap"], "compares members"),
        (
            ["--coefficient", "-1", "--measure", "reward_std"],
            "--coefficient must be finite and not negative, got -1.0.",
        ),
        (["--coefficient", "0.5"], "--coefficient 0.5 is what a --measure costs: name one, or leave it out."),
    ],
)
def test_what_cannot_be_is_told_in_one_line(saved_urm, capsys, monkeypatch, arguments, told):
    monkeypatch.delenv("URM_SERVE_TOKEN", raising=False)
    assert main(["serve", saved_urm, *arguments]) == 2
    *before, error, end = capsys.readouterr().err.split("\n")
    assert error.startswith("urm serve: error: ") and told in error and end == ""
    assert not any("error" in line for line in before)  # bars of a model that was loaded


def test_no_auth_beside_a_token_is_refused(saved_urm, capsys, monkeypatch):
    monkeypatch.setenv("URM_SERVE_TOKEN", "s3cret")
    assert main(["serve", saved_urm, "--no-auth"]) == 2
    error = capsys.readouterr().err
    assert "contradict" in error and "s3cret" not in error


def test_a_port_that_is_taken_is_told(saved_urm, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert main(["serve", saved_urm, "--port", str(other.getsockname()[1])]) == 2
    assert "Take another port." in capsys.readouterr().err


def test_a_gate_that_was_never_trained_is_told_as_the_server_starts(tmp_path, capsys):
    for number, training in enumerate(({"attribute_stage": {}, "gating_stage": {}}, {"attribute_stage": {}})):
        urm = tiny_urm(seed=number)
        urm.config.training = training
        folder = save_with_tokenizer(urm, tmp_path / str(number))
        warn_of_untrained_gates(build_parser().parse_args([folder]))
        assert ("the gate was not trained" in capsys.readouterr().err) == (number == 1)
    warn_of_untrained_gates(build_parser().parse_args([f"{tmp_path / '0'},{tmp_path / '1'}"]))
    assert "the gate was not trained" in capsys.readouterr().err


@pytest.mark.slow
def test_an_ensemble_is_served_and_sigterm_answers_what_is_in_flight(folders):
    process, url = start(",".join(folders), URM_SERVE_TOKEN="s3cret")
    session = requests.Session()
    session.trust_env, session.headers["Authorization"] = False, "Bearer s3cret"
    rows = [{"prompt": f"What is {n}?", "response": f"It is {n}. " * 20} for n in range(400)]
    try:
        (model,) = session.get(f"{url}/v1/models", timeout=60).json()["data"]
        assert (model["kind"], model["members"]) == ("ensemble", 3)
        assert model["id"] == "member-0+member-1+member-2"
        with ThreadPoolExecutor(3) as pool:
            body = {"conversations": rows}
            asked = [
                pool.submit(requests.post, f"{url}/v1/rewards", json=body, auth=("x", "s3cret")) for _ in range(2)
            ]
            while "urm_queued_tokens 0.0" in (text := session.get(f"{url}/metrics", timeout=60).text):
                assert "urm_requests_total{" not in text, "the requests were answered before the signal"
            process.send_signal(signal.SIGTERM)
            answers = [future.result(timeout=LIMIT) for future in asked]
        wanted = [score.reward for score in RewardScorer(folders).score(rows)]
        for answer in answers:
            assert [entry["reward"] for entry in answer.json()["data"]] == close(wanted)
        assert process.wait(LIMIT) == 0
        with pytest.raises(requests.ConnectionError):
            session.get(f"{url}/health", timeout=10)
    finally:
        process.kill()
        process.wait(LIMIT)


@pytest.mark.slow
def test_a_server_is_ready_when_the_model_gives_the_scores_it_was_published_with(saved_urm):
    scores = reference_scores(Path(saved_urm))
    (path := Path(saved_urm) / SCORES).write_text(json.dumps(scores))
    process, url = start(saved_urm)
    assert requests.get(f"{url}/ready", timeout=60).status_code == 200
    process.terminate()
    assert process.wait(LIMIT) == 0
    scores["conversations"][1]["reward"] += 0.5
    path.write_text(json.dumps(scores))
    process, url = start(saved_urm)
    answer = requests.get(f"{url}/ready", timeout=60)
    assert answer.status_code == 503 and "'a wrong answer' has another reward" in answer.json()["error"]["message"]
    assert requests.get(f"{url}/health", timeout=60).status_code == 200
    assert requests.post(f"{url}/v1/rewards", json={"conversations": ROWS}, timeout=60).status_code == 200
    process.terminate()
    assert process.wait(LIMIT) == 0
