"""Programs in processes of their own."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Seconds after which something hangs for ever. How long it takes is no test: a loaded machine takes its time.
LIMIT = 1800.0


def run_command(command: Sequence[str], **settings: Any) -> str:
    """What a command printed, which ended well; `settings` go to `subprocess.run`."""
    finished = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False, **settings)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


def run_program(code: str, asked: Any, home: Path, environment: dict[str, str], *flags: str) -> str:
    """
    What a Python program printed, which ended well.

    Args:
        asked: what it reads as JSON from standard input. home: where it runs. flags: of Python.
    """
    return run_command([sys.executable, *flags, "-c", code], input=json.dumps(asked), env=environment, cwd=home)


def wait_until(condition: Callable[[], Any], alive: Callable[[], bool] = lambda: True) -> Any:
    """What a condition gives as soon as it holds; an error if what it waits for is no longer `alive`."""
    until = time.monotonic() + LIMIT
    while not (found := condition()):
        assert alive() and time.monotonic() < until, "what was waited for did not come"
        time.sleep(0.005)
    return found


def run_stranger(code: str, asked: Any, home: Path):
    """The same without urm_hf, without the network and with caches of its own."""
    private = {"HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules"), "HF_HUB_OFFLINE": "1"}
    run_program(code, asked, home, os.environ | private, "-I")


def start(function: Callable, arguments: Sequence[Any], preloaded: Sequence[str]) -> multiprocessing.Process:
    """Starts a function in a process that has imported these modules, but shares nothing with this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preloaded))
    process = context.Process(target=function, args=tuple(arguments))
    process.start()
    return process
