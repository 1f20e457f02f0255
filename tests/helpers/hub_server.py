"""
A Hub on loopback: as much of its HTTP interface as `huggingface_hub` uses for models, with faults on request.

Commits, branches, tags, LFS uploads, redirects to a CDN, private and gated repositories; everything is in memory.
"""

import json
import os
import re
import traceback
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from tests.helpers.hub_answers import ROUTES, HubAnswers
from tests.helpers.hub_repositories import WRITER, HubError
from tests.helpers.loopback import serving


class FakeHub(HubAnswers):
    """
    The Hub as tests see it, and how clients are pointed at it.

    Attributes:
        requests: (method, path, status) of every request, in order. authorizations: the tokens that came with them.
    """

    def __init__(self):
        super().__init__()
        self.requests: list[tuple[str, str, int]] = []
        self.authorizations: set[str] = set()

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """For a process that has this Hub, empty caches in `home`, and this token or none."""
        ours = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_MODULES_CACHE": str(home / "modules")}
        ours |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
        drop = {"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HF_DATASETS_OFFLINE"}
        return {k: v for k, v in os.environ.items() if k not in drop} | ours | ({"HF_TOKEN": token} if token else {})

    def attach(self, monkeypatch, home: Path, token: str | None = WRITER):
        """Points the client of this process here, with its cache in `home`; a process of its own is the surer way."""
        import transformers.utils.hub
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import _http

        values = {"ENDPOINT": self.url, "HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}
        values |= {"HF_HUB_CACHE": str(home / "hub"), "HF_TOKEN_PATH": str(home / "token")}
        for name, value in (values | {"HF_HUB_DISABLE_TELEMETRY": True}).items():
            monkeypatch.setattr(constants, name, value)
        template = self.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(hf_api.api, "endpoint", self.url)
        monkeypatch.setattr(transformers.utils.hub, "_hf_api", None, raising=False)  # keeps the endpoint it had first
        monkeypatch.setenv("HF_TOKEN", token or "")
        monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # between the client's tries


class Handler(BaseHTTPRequestHandler):
    """One request: reads it whole, finds its answer, sends it."""

    protocol_version = "HTTP/1.1"

    def __init__(self, hub: FakeHub, *args):
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *args):
        """Nothing is printed."""

    @property
    def is_json(self) -> bool:
        return "json" in self.headers.get("Content-Type", "")

    def json(self):
        return json.loads(self.body)

    def answer(self):
        parts = urlsplit(self.path)
        self.path, self.query = parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}
        if self.command == "PUT" and self.hub.fail_upload == "drop" and self._is_chosen_upload():
            self.hub.requests.append((self.command, self.path, 0))
            self.rfile.read(min(1000, int(self.headers.get("Content-Length", 1000))))
            self.connection.close()
            raise ConnectionAbortedError
        self.body = self._read_body()
        try:
            self.token = self._token()
            status, body, headers = self._find()
        except HubError as error:
            status, body, headers = error.status, {"error": str(error)}, error.headers
        except Exception:  # a mistake of this file: the client sees it instead of a broken connection
            status, body, headers = 501, {"error": traceback.format_exc()}, {}
        self.hub.requests.append((self.command, self.path, status))
        self._send(status, body, headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def _is_chosen_upload(self) -> bool:
        oid = self.path.split("/")[-1]
        with self.hub.lock:
            if oid not in self.hub.uploads:
                self.hub.uploads.append(oid)
            return self.hub.uploads.index(oid) + 1 == self.hub.fail_upload_at

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _token(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind != "Bearer":
            return None
        self.hub.authorizations.add(token)
        if token not in self.hub.tokens:
            raise HubError(401, "Invalid credentials in Authorization header")
        return token

    def _find(self):
        method = "GET" if self.command == "HEAD" else self.command
        for verb, pattern, function in ROUTES:
            match = re.fullmatch(pattern, self.path)
            if verb == method and match:
                named = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                return function(self.hub, self, **named)
        raise HubError(404, f"Not found: {self.path}")

    def _send(self, status: int, body, headers: dict[str, str]):
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part and status == 200:
            start, end = int(part[1]), int(part[2] or len(content) - 1)
            headers = headers | {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
            status, content = 206, content[start : end + 1]
        self.send_response(status)
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        for name, value in ({"Content-Type": kind, "Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def running_hub():
    """A [`FakeHub`] that serves on a free port of 127.0.0.1 while the block runs."""
    hub = FakeHub()
    with serving(partial(Handler, hub)) as port:
        hub.url = f"http://127.0.0.1:{port}"
        hub.cdn_url = f"http://localhost:{port}"  # another host to the client, as the real one
        yield hub


@pytest.fixture
def hub():
    """An empty Hub. Import it into a test module, or use `running_hub` for a longer life."""
    with running_hub() as fake:
        yield fake


@pytest.fixture(scope="module")
def module_hub():
    """A Hub that the tests of a module share."""
    with running_hub() as fake:
        yield fake
