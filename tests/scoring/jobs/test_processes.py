"""`urm score` by processes that are killed: nothing is lost, nothing is there twice, not a byte differs."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.helpers.programs import LIMIT, start, wait_until
from tests.helpers.score_runs import ROWS, score, write

SIZE = 5


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def many(tmp_path) -> Path:
    return write(tmp_path / "many.jsonl", [row | {"id": [n, row["id"]]} for n in range(20) for row in ROWS])


def run_once(model, data, out):
    """The whole command in a process of its own."""
    torch.set_num_threads(1)
    os._exit(score(model, "--data", data, "--out", out, "--rows-per-part", SIZE))


PRELOADED = [__name__, "urm_hf.scoring.jobs.processes", "transformers.models.llama"]


def kill_by_chance(process: multiprocessing.Process, folder: Path, rng: random.Random, longest: float):
    """Kills a process at some time, or when it has finished one or two parts, if it has not ended before."""
    before = len(list(folder.glob("*.rows")))
    until, more = time.monotonic() + rng.uniform(0, longest), rng.choice([1, 2, 100])
    while process.is_alive() and time.monotonic() < until and len(list(folder.glob("*.rows"))) < before + more:
        time.sleep(0.001)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.slow
def test_killed_at_twenty_random_points_the_same_command_gives_the_same_bytes(
    saved_urm, data, tmp_path, record_property
):
    record_property("trials", 20)
    whole, out, folder = (tmp_path / name for name in ("whole.jsonl", "out.jsonl", "out.jsonl.parts"))
    for _ in range(2):  # the first also waits for the imports
        started = time.monotonic()
        process = start(run_once, (saved_urm, data, whole), PRELOADED)
        process.join()
        duration = time.monotonic() - started
    rng, killed = random.Random(0), 0
    while killed < 20:
        process = start(run_once, (saved_urm, data, out), PRELOADED)
        kill_by_chance(process, folder, rng, duration)
        killed += process.exitcode == -signal.SIGKILL
        if process.exitcode == 0:
            assert out.read_bytes() == whole.read_bytes() and not folder.exists()
            out.unlink()
    start(run_once, (saved_urm, data, out), PRELOADED).join()
    assert out.read_bytes() == whole.read_bytes() and not folder.exists()


def command(*argv) -> list[str]:
    return [
        sys.executable,
        "-c",
        "import sys; from urm_hf.cli import main; sys.exit(main())",
        "score",
        *map(str, argv),
    ]


def kill_one_worker(root: psutil.Process, folder: Path, name: str):
    """Kills one of the workers below a process once a part is done."""
    wait_until(lambda: list(folder.glob("*.rows")))
    workers = [child for child in root.children(recursive=True) if name in " ".join(child.cmdline())]
    workers[0].kill()
    return len(workers)


@pytest.mark.slow
def test_what_a_process_leaves_undone_the_other_does(saved_urm, many, tmp_path):
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    score(saved_urm, "--data", many, "--out", whole, "--rows-per-part", SIZE)
    argv = ["--data", many, "--out", out, "--rows-per-part", SIZE, "--num-processes", 2]
    with subprocess.Popen(command(saved_urm, *argv), stderr=subprocess.PIPE, text=True) as process:
        assert kill_one_worker(psutil.Process(process.pid), tmp_path / "out.jsonl.parts", "spawn_main") == 2
        told = process.communicate()[1]
    assert (process.returncode, out.read_bytes() == whole.read_bytes()) == (0, True), told
    assert "1200 rows in, 1200 scored" in told


@pytest.mark.slow
def test_an_error_of_a_process_is_told_in_one_line(saved_urm, tmp_path):
    data = write(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "A?", "response": " "}])
    argv = ["--data", data, "--out", tmp_path / "out.jsonl", "--rows-per-part", 10, "--num-processes", 2]
    finished = subprocess.run(command(saved_urm, *argv), capture_output=True, text=True)
    assert finished.returncode == 2
    error = finished.stderr.splitlines()[-1]
    assert error.startswith(f"urm score: error: {data}, row 60: `response` is empty.")
    assert "1 of 7 parts are missing; the same command goes on with them." in error


@pytest.mark.slow
def test_processes_of_accelerate_share_the_parts(saved_urm, data, tmp_path):
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    score(saved_urm, "--data", data, "--out", whole, "--rows-per-part", SIZE)
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--no_python"]
    argv = ["--data", data, "--out", out, "--rows-per-part", SIZE, "--device", "cpu"]
    finished = subprocess.run([*launcher, *command(saved_urm, *argv)], capture_output=True, text=True)
    assert out.read_bytes() == whole.read_bytes(), finished.stderr
    assert finished.stderr.count("60 rows in, 60 scored") == 1


@pytest.mark.slow
def test_actors_of_ray_lose_nothing_when_one_is_killed(saved_urm, many, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'urm-hf[ray]')")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    out, whole = tmp_path / "out.jsonl", tmp_path / "whole.jsonl"
    score(saved_urm, "--data", many, "--out", whole, "--rows-per-part", SIZE)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    killed = []

    def kill():
        killed.append(kill_one_worker(psutil.Process(), tmp_path / "out.jsonl.parts", "RayPartScorer"))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        argv = ["--rows-per-part", SIZE, "--engine", "ray", "--num-processes", 2]
        assert score(saved_urm, "--data", many, "--out", out, *argv) == 0
    finally:
        ray.shutdown()
    thread.join(LIMIT)
    assert killed == [2]
    assert out.read_bytes() == whole.read_bytes()
