"""
Killing a command at each of its operations on files: the process ends before the operation, as by SIGKILL, and runs no
more of its own code. What the same command makes of it afterwards is compared with a run that nobody killed.
"""

import os
import sys
from collections.abc import Callable, Sequence
from multiprocessing import Process
from typing import Any

from tests.helpers.programs import start

# operations after which the disk is another one, as Python's audit hooks name them
WRITES = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree")
KILLED = 137


def is_write(event: str, arguments: tuple, folder: str) -> bool:
    """Whether an event changes what lies in a folder."""
    if event == "open":
        path, mode, flags = arguments
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        return bool(writes) and isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(folder)
    if event not in WRITES:
        return False
    return any(isinstance(each, str | os.PathLike) and os.fsdecode(each).startswith(folder) for each in arguments)


def run_until(folder: str, stop: int, function: Callable[..., Any], arguments: Sequence[Any]):
    """Runs a function in this process, which ends before operation `stop`, counted from 1; 0: it is only counted."""
    done = 0

    def on_event(event: str, values: tuple):
        nonlocal done
        if is_write(event, values, folder):
            done += 1
            if done == stop:
                os._exit(KILLED)

    sys.addaudithook(on_event)
    code = function(*arguments)
    operations = done  # the file below is one more
    if not stop:
        with open(f"{folder}.operations", "w") as file:
            file.write(str(operations))
    os._exit(code or 0)


def begin(
    folder: str, stop: int, function: Callable[..., Any], arguments: Sequence[Any], preloaded: list[str]
) -> Process:
    return start(run_until, (folder, stop, function, arguments), [__name__, *preloaded])
