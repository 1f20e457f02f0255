"""A reward server on a free port of this machine, for the time of a test."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import requests
from fastapi import FastAPI

from urm_hf import RewardScorer
from urm_hf.serving.app import create_app
from urm_hf.serving.server import build_server, open_socket
from urm_hf.serving.service import RewardService
from urm_hf.serving.settings import Settings


class Running:
    """
    Attributes:
        url: of the server. service: what scores behind it. scorer: the model.
    """

    def __init__(self, url: str, service: RewardService):
        self.url, self.service, self.scorer = url, service, service.scorer
        self.session = requests.Session()
        self.session.trust_env = False

    def post(self, path: str, body: Any = None, **settings: Any) -> requests.Response:
        """The answer to a JSON body, or to `data` as it is."""
        given = settings if body is None else {"json": body, **settings}
        return self.session.post(self.url + path, timeout=60, **given)

    def get(self, path: str, **settings: Any) -> requests.Response:
        return self.session.get(self.url + path, timeout=60, **settings)

    def count(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        value = self.service.metrics.registry.get_sample_value(name, labels)
        return 0.0 if value is None else value


@contextmanager
def running_server(scorer: RewardScorer, folder: str | None = None, **settings: Any) -> Iterator[Running]:
    """A server that answers while the block runs; `settings` are those of [`Settings`]."""
    app = create_app(scorer, Settings(**settings), folder)
    with running_app(app) as url:
        yield Running(url, app.state.service)


@contextmanager
def running_app(app: FastAPI) -> Iterator[str]:
    """The URL of an application that answers while the block runs."""
    server = build_server(app)
    with open_socket("127.0.0.1", 0) as opened:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{opened.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
