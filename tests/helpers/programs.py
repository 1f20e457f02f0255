"""Programs in processes of their own."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def run_program(code: str, asked: Any, home: Path, environment: dict[str, str], *flags: str) -> str:
    """
    What a Python program printed, which ended well.

    Args:
        asked: what it reads as JSON from standard input. home: where it runs. flags: of Python.
    """
    finished = subprocess.run(
        [sys.executable, *flags, "-c", code],
        input=json.dumps(asked),
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


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
