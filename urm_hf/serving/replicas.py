"""Several copies of a model behind one port, by Ray Serve: a replica each for several GPUs, or several processes."""

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI

WAITING = 4096  # requests that a replica holds: it makes batches of them, and says itself when there are too many
CLUSTER = "RAY_ADDRESS"  # where Ray looks for a cluster, before it starts one of this machine
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
        ValueError: this machine has too little for so many replicas.
        RuntimeError: a replica does not start.
    """
    try:
        import ray
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
        if CLUSTER not in os.environ:  # a cluster may still grow
            check_resources(ray.cluster_resources(), replicas, gpus)
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


def check_resources(resources: Mapping[str, float], replicas: int, gpus: float):
    """
    Args:
        resources (`Mapping[str, float]`): what Ray has, by its names.
        replicas (`int`): how many copies.
        gpus (`float`): of each; 0 on a CPU.

    Raises:
        ValueError: it is too little; Ray itself would wait for more for ever.
    """
    name, each = ("GPU", gpus) if gpus else ("CPU", 1)
    there = resources.get(name, 0)
    if replicas * each > there:
        told = f"--replicas {replicas} needs {replicas * each:g} {name}s, and there are {there:g}"
        raise ValueError(f"{told}: ask for fewer, or name a cluster in {CLUSTER}.")


class Replica:
    """What Ray Serve puts around the application; nothing is to be added."""


def _quiet(serve: Any) -> Any:
    """Logs without requests, of which Ray Serve would write a line each."""
    return serve.schema.LoggingConfig(log_level="WARNING", enable_access_log=False)
