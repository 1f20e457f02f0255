"""Several copies of a model behind one port, by Ray Serve: a replica each for several GPUs, or several processes."""

import logging
import signal
import threading
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI

WAITING = 4096  # requests that a replica holds: it makes batches of them, and says itself when there are too many
STOPPING_SECONDS = 300.0  # in which a replica answers what it has begun

logger = logging.getLogger(__name__)


def run_replicas(
    build_app: Callable[[], FastAPI], replicas: int, host: str, port: int, gpus: float, told: Callable[[], Any]
):
    """
    Serves copies of an application until SIGTERM or SIGINT, each in a process of its own.

    Args:
        build_app (`Callable`): loads the model and gives the application; called in each replica, and so pickled.
        replicas (`int`): how many copies.
        host, port: where the proxy in front of them listens.
        gpus (`float`): of each replica; 0 on a CPU.
        told (`Callable`): called when clients may ask.

    Raises:
        ImportError: Ray Serve is not installed.
        RuntimeError: a replica does not start.
    """
    try:
        from ray import serve
    except ImportError as error:
        raise ImportError("--replicas needs Ray Serve: `pip install 'urm-hf[replicas]'`.") from error

    def build() -> FastAPI:  # Ray Serve takes for a factory what is a function, and nothing else that can be called
        return build_app()

    stopped = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    deployment = serve.deployment(
        num_replicas=replicas,
        ray_actor_options={"num_gpus": gpus, "num_cpus": 1},
        max_ongoing_requests=WAITING,
        graceful_shutdown_timeout_s=STOPPING_SECONDS,
    )
    try:
        serve.start(http_options={"host": host, "port": port})
        # only now, as Ray sets handlers of its own; and not later, as clients are answered while `run` still waits
        for number in before:
            signal.signal(number, lambda *_: stopped.set())
        serve.run(deployment(serve.ingress(build)(Replica)).bind(), name="urm", logging_config=_quiet(serve))
        told()
        stopped.wait()
    finally:
        serve.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)


class Replica:
    """What Ray Serve puts around the application; nothing is to be added."""


def _quiet(serve: Any) -> Any:
    """Logs without requests, of which Ray Serve would write a line each."""
    return serve.schema.LoggingConfig(log_level="WARNING", enable_access_log=False)
