"""
Every command and program of docs/serving.md runs as printed, on tiny members and free ports.

The frameworks are not installed: where an example starts one, a program of the same name writes down what it was told.
"""

import configparser
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import yaml

from tests.helpers.programs import LIMIT, run_command
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import serve
from urm_hf.serving.access import check_host

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Shell:
    """
    A folder with the models of `urm demo`, and the commands of the page in it.

    Attributes:
        told: what the frameworks' programs were told, one argument a line.
    """

    def __init__(self, folder: Path):
        self.folder, self.told = folder, folder / "told.txt"
        self.ports = dict(zip(("8770", "8771"), map(str, free_ports(2))))
        self.servers: list[subprocess.Popen] = []
        for seed in range(3):
            save_with_tokenizer(tiny_urm(seed=seed), folder / "urm-demo" / f"member-{seed}")
        (folder / "examples").symlink_to(ROOT / "examples")
        programs = folder / "bin"
        programs.mkdir()
        self._write(programs / "urm", f'exec "{sys.executable}" -m urm_hf "$@"')
        framework = (
            f'case "$1" in -c) exec "{sys.executable}" "$@";; esac; for word; do echo "$word"; done >> told.txt'
        )
        self._write(programs / "python", framework)
        paths = os.pathsep.join([str(programs), os.environ["PATH"]])
        self.environment = os.environ | {"PATH": paths, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
        self.environment.pop("URM_SERVE_TOKEN", None)

    @staticmethod
    def _write(path: Path, line: str):
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)

    def translate(self, text: str) -> str:
        for written, free in self.ports.items():
            text = text.replace(written, free)
        # other machines are not to reach a test
        return text.replace("--host 0.0.0.0", "--host 127.0.0.1")

    def run(self, block: str) -> str:
        """What a block prints; a server in it, its last line, goes on in the background."""
        *lines, last = self.translate(block).replace("\\\n", " ").strip().split("\n")
        printed = ""
        if not last.startswith("urm serve"):
            lines.append(last)
        if lines:
            done = subprocess.run(
                ["sh", "-ec", "\n".join(lines)], cwd=self.folder, env=self.environment, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            printed = done.stdout
        if last.startswith("urm serve"):
            port = re.search(r"--port (\d+)", last)
            if port is None:
                last += f" --port {self.ports['8770']}"
            self.servers.append(subprocess.Popen(["sh", "-c", f"exec {last}"], cwd=self.folder, env=self.environment))
            self.wait(port[1] if port else self.ports["8770"])
        return printed

    def wait(self, port: str):
        until = time.monotonic() + LIMIT
        while time.monotonic() < until and self.servers[-1].poll() is None:
            try:
                assert requests.get(f"http://127.0.0.1:{port}/ready", timeout=60).status_code == 200
                return
            except requests.ConnectionError:
                time.sleep(0.1)
        raise AssertionError("the server of the page did not start")


def check_benchmark(block: str):
    """Its lines are commands of the benchmark, of which the smallest is run; what it prints is the page's table."""
    lines = block.strip().split("\n")
    assert all(re.fullmatch(r"OMP_NUM_THREADS=1 python benchmarks/serving\.py( --\w+ \w+)+", line) for line in lines)
    _, _, script, *flags = lines[0].split()
    small = ["--rounds", "1", "--clients", "8", "--layers", "1"]
    printed = run_command(
        [sys.executable, str(ROOT / script), *flags, *small], env=os.environ | {"NO_PROXY": "127.0.0.1"}
    )
    (heading,) = re.findall(r"^\| work \|.*$", printed, flags=re.MULTILINE)
    assert heading in PAGE and "one model" in printed


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    shell = Shell(tmp_path_factory.mktemp("page"))
    yield shell
    for server in shell.servers:
        server.terminate()
        server.wait(LIMIT)


@pytest.mark.slow
def test_the_commands_and_programs_run_as_printed(shell, monkeypatch):
    assert shutil.which("curl"), "the page asks with curl"
    *commands, benchmark = blocks("bash")
    printed = [shell.run(block) for block in commands]
    served, rewards, preference, scores, frameworks, token, models = printed
    assert served == scores == token == ""
    assert "reward_gap" in (shell.folder / "scores.jsonl").read_text()
    assert '"reward_gap"' in rewards and '"member_rewards"' in rewards
    assert '"probability"' in preference and '"trusted"' in preference
    assert '"kind":"urm"' in models
    assert frameworks == ""
    told = shell.told.read_text().split("\n")
    for flag, route in (("--remote_rm_url", "/get_reward"), ("--rm-url", "/reward")):
        url = told[told.index(flag) + 1]
        assert url == f"http://any:none@127.0.0.1:8770{route}"
        body = {"query": [], "prompt": "What is 2 + 2?", "response": "It is 4."}
        assert requests.post(shell.translate(url), json=body, timeout=60).status_code == 200
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    names: dict = {}
    for program in blocks("python"):
        exec(compile(shell.translate(program), "serving.md", "exec"), names)
    assert names["score"].reward_gap > 0
    assert f'"reward": {names["score"].reward}' in rewards
    check_benchmark(benchmark)


def test_the_units_start_servers_that_may_be_reached(monkeypatch):
    """What they say is a command of this version, with a token."""
    (unit,), (pod,) = blocks("ini"), blocks("yaml")
    _, *service = re.search(r"^ExecStart=\S+/urm (.*)$", unit, flags=re.MULTILINE)[1].split()
    args = serve.build_parser().parse_args(service)
    assert args.host == "0.0.0.0" and args.token_file
    order, wanted = (re.findall(rf"^{name}=(.*)$", unit, flags=re.MULTILINE) for name in ("After", "Wants"))
    assert order == wanted  # systemd orders only what something has asked for
    (container,) = yaml.safe_load(pod)["containers"]
    assert container["env"][0]["name"] == "URM_SERVE_TOKEN"
    args = serve.build_parser().parse_args(container["args"])
    check_host(args.host, "a token")
    ports = {probe["httpGet"]["port"] for name, probe in container.items() if name.endswith("Probe")}
    assert ports == {args.port}


def test_the_image_is_made_of_what_there_is():
    """It is not built here: its files, its extra, its probe and the arguments on the page are looked at."""
    lines = [line.split(" ", 1) for line in (ROOT / "Dockerfile").read_text().splitlines() if line[0] != "#"]
    steps = {name: [rest for other, rest in lines if other == name] for name, _ in lines}
    assert steps["COPY"] == [". /src"] and json.loads(steps["ENTRYPOINT"][0]) == ["urm", "serve"]
    (pip,) = (step for step in steps["RUN"] if "pip install" in step)
    assert all((ROOT / file).exists() for file in re.findall(r"/src/([\w.]+)", pip))
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(re.findall(r"/src\[(\w+)\]", pip)) <= set(setup["options.extras_require"])
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert not {"modeling", "trainers", "urm_hf", "setup.cfg", "pyproject.toml", "README.md"} & set(ignored)
    (run,) = re.findall(r"^docker run .* urm (org/.*)$", PAGE, flags=re.MULTILINE)
    (volume,) = re.findall(r"^docker run .* -v \w+:(\S+) ", PAGE, flags=re.MULTILINE)
    (user,) = steps["USER"]  # who else could not write there: Docker makes what is not in the image as root
    assert any(f"--owner={user} " in step and step.endswith(f" {volume}") for step in steps["RUN"])
    args = serve.build_parser().parse_args(run.split())
    assert steps["EXPOSE"] == [str(args.port)]
    check_host(args.host, "a token")
    probe = json.loads(steps["HEALTHCHECK"][0].partition("CMD ")[2])
    assert probe[:2] == ["python", "-c"] and f"127.0.0.1:{args.port}/ready" in probe[2]
    compile(probe[2], "probe", "exec")


def test_the_table_of_routes_names_routes_that_there_are():
    from urm_hf.serving.protocols import PROTOCOLS

    paths = {path for protocol in PROTOCOLS for path in protocol.paths}
    named = set(re.findall(r"(?<=`)(/\w[\w/]*)(?=[`?])|(?<=8770)(/\w[\w/]*)", PAGE))
    named.discard(("/v1/score", ""))  # of SGLang
    named = {one or other for one, other in named} - {"/health", "/ready", "/metrics", "/urm/metrics", "/pooling"}
    assert named <= paths and {"/v1/rewards", "/v1/preferences", "/get_reward", "/reward", "/verify"} <= named
