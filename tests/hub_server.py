"""
A Hub on loopback: as much of its HTTP interface as `huggingface_hub` uses for models, with faults on request.

Commits, branches, tags, LFS uploads, redirects to a CDN, private and gated repositories; everything is in memory.
"""

import base64
import hashlib
import json
import os
import re
import threading
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

WRITER, READER, STRANGER = "hf_writerwriterwriterwriter", "hf_readerreaderreaderreader", "hf_strangerstrangerstranger"
LFS_SUFFIXES = (".safetensors", ".bin", ".png", ".model")
INITIAL = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}


class HubError(Exception):
    """An answer that is not a success; `code` and `message` are the headers that the client reads."""

    def __init__(self, status: int, message: str, code: str | None = None, **headers: str):
        super().__init__(message)
        named = {"X-Error-Message": message, "X-Error-Code": code}
        self.status, self.headers = status, {k: v for k, v in named.items() if v} | headers


@dataclass
class Repository:
    private: bool
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit: {path: content}
    messages: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        text = json.dumps([branch, message, len(self.commits), sorted(files)]).encode()
        sha = hashlib.sha1(text + b"".join(files[path] for path in sorted(files))).hexdigest()
        self.commits[sha], self.messages[sha], self.branches[branch] = dict(files), message, sha
        return sha

    def resolve(self, revision: str) -> str:
        sha = self.branches.get(revision) or self.tags.get(revision) or revision
        if sha not in self.commits:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha


class FakeHub:
    """
    The state of the server and the faults it was asked for.

    Attributes:
        requests: (method, path, status) of every request, in order. authorizations: the tokens that came with them.
        fail_upload: "500" or "drop" (the connection breaks half way) for the LFS upload number `fail_upload_at`, also
            when the client tries again. fail_commit: status that every commit is answered with.
        lose: paths that vanish from a commit though it is answered as a success.
        page: entries on one page of a listing.
    """

    tokens = {WRITER: ("writer", {"writer", "org"}), READER: ("reader", {"org"}), STRANGER: ("stranger", {"stranger"})}

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}  # LFS content by sha256
        self.uploads: list[str] = []  # in the order in which they were first tried
        self.requests: list[tuple[str, str, int]] = []
        self.authorizations: set[str] = set()
        self.fail_upload: str | None = None
        self.fail_upload_at = 1
        self.fail_commit: int | None = None
        self.lose: set[str] = set()
        self.page = 4
        self.lock = threading.RLock()
        self.url = self.cdn_url = ""

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a commit holds, without what every new repository holds."""
        repository = self.repositories[repo_id]
        return {k: v for k, v in repository.commits[repository.resolve(revision)].items() if k not in INITIAL}

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

    # Answers. Each takes a request and returns (status, body, headers); a dict or list is sent as JSON.

    def whoami(self, request):
        if request.token is None:
            raise HubError(401, "Invalid username or password.")
        name, namespaces = self.tokens[request.token]
        orgs = [{"name": org, "type": "org"} for org in sorted(namespaces - {name})]
        auth = {"type": "access_token", "accessToken": {"role": "read" if request.token == READER else "write"}}
        return 200, {"type": "user", "name": name, "fullname": name, "orgs": orgs, "auth": auth}, {}

    def create(self, request):
        asked = request.json()
        if request.token is None:
            raise HubError(401, "Invalid username or password.")
        namespace = asked.get("organization") or self.tokens[request.token][0]
        repo_id = f"{namespace}/{asked['name']}"
        self.check_write(request, namespace)
        answer = {"url": f"{self.url}/{repo_id}", "name": repo_id}
        if repo_id in self.repositories:
            return 409, {"error": "You already created this model repo"} | answer, {}
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.repositories[repo_id] = Repository(private)
        self.repositories[repo_id].commit("main", INITIAL, "initial commit")
        return 200, answer, {}

    def info(self, request, repo_id, revision="main"):
        repository = self.readable(request, repo_id)
        sha = repository.resolve(revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
        answer = {"_id": "0", "id": repo_id, "modelId": repo_id, "sha": sha, "siblings": siblings, "tags": []}
        state = {"private": repository.private, "gated": "manual" if repository.gated else False, "disabled": False}
        return 200, answer | state | {"downloads": 0, "likes": 0}, {}

    def tree(self, request, repo_id, revision, folder=""):
        repository = self.readable(request, repo_id)
        files = repository.commits[repository.resolve(revision)]
        prefix = f"{folder}/" if folder else ""
        paths = sorted(path for path in files if path.startswith(prefix))
        if folder and not paths:
            raise HubError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
        entries = [self.entry(path, files[path]) for path in paths]
        if request.query.get("recursive", "").lower() not in ("true", "1"):
            folders = sorted({path[len(prefix) :].split("/")[0] for path in paths if "/" in path[len(prefix) :]})
            entries = [entry for entry in entries if "/" not in entry["path"][len(prefix) :]]
            entries = [{"type": "directory", "path": prefix + name, "oid": "0" * 40} for name in folders] + entries
        start = int(request.query.get("cursor", 0))
        headers = {}
        if start + self.page < len(entries):
            asked = "&".join(f"{k}={v}" for k, v in request.query.items() if k != "cursor")
            following = f"{self.url}{request.path}?{asked}&cursor={start + self.page}"
            headers["Link"] = f'<{following}>; rel="next"'
        return 200, entries[start : start + self.page], headers

    def paths_info(self, request, repo_id, revision):
        repository = self.readable(request, repo_id)
        files = repository.commits[repository.resolve(revision)]
        asked = request.json()["paths"] if request.is_json else parse_qs(request.body.decode())["paths"]
        return 200, [self.entry(path, files[path]) for path in asked if path in files], {}

    def refs(self, request, repo_id):
        repository = self.readable(request, repo_id)
        named = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        answer = {
            kind: [{"name": n, "ref": f"refs/{ref}/{n}", "targetCommit": sha} for n, sha in items.items()]
            for kind, (ref, items) in named.items()
        }
        return 200, answer | {"converts": []}, {}

    def branch(self, request, repo_id, name):
        repository = self.writable(request, repo_id)
        if name in repository.branches:
            raise HubError(409, f"Reference already exists: {name}")
        repository.branches[name] = repository.resolve(request.json().get("startingPoint", "main"))
        return 200, {}, {}

    def tag(self, request, repo_id, revision):
        repository, name = self.writable(request, repo_id), request.json()["tag"]
        if name in repository.tags:
            raise HubError(409, f"Tag already exists: {name}")
        repository.tags[name] = repository.resolve(revision)
        return 200, {}, {}

    def preupload(self, request, repo_id, revision):
        repository = self.writable(request, repo_id)
        there = repository.commits[repository.resolve(revision)]
        answer = []
        for file in request.json()["files"]:
            mode = "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular"
            known = self.entry(file["path"], there[file["path"]]) if file["path"] in there else {}
            oid = known.get("lfs", known).get("oid")
            answer.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": answer}, {}

    def lfs_batch(self, request, repo_id):
        self.writable(request, repo_id)
        objects = []
        for item in request.json()["objects"]:
            oid = item["oid"]
            actions = {"upload": {"href": f"{self.url}/lfs/{oid}"}, "verify": {"href": f"{self.url}/lfs/{oid}/verify"}}
            objects.append(item if oid in self.blobs else item | {"actions": actions})
        return 200, {"transfer": "basic", "objects": objects}, {}

    def upload(self, request, oid):
        with self.lock:
            if oid not in self.uploads:
                self.uploads.append(oid)
            failing = self.fail_upload and self.uploads.index(oid) + 1 == self.fail_upload_at
        if failing and self.fail_upload == "500":
            raise HubError(500, "Internal Error - We encountered an internal error. Please try again.")
        if hashlib.sha256(request.body).hexdigest() != oid:
            raise HubError(400, "The content does not match its sha256.")
        self.blobs[oid] = request.body
        return 200, b"", {"ETag": f'"{oid}"'}

    def verify_upload(self, request, oid):
        if len(self.blobs.get(oid, b"")) != request.json()["size"]:
            raise HubError(404, "The object was not uploaded.")
        return 200, {}, {}

    def commit(self, request, repo_id, branch):
        repository = self.writable(request, repo_id)
        if self.fail_commit:
            raise HubError(self.fail_commit, "The commit could not be made.")
        if branch not in repository.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        files, summary = dict(repository.commits[repository.branches[branch]]), ""
        for line in request.body.decode().splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "header":
                summary = value["summary"]
                if value.get("parentCommit") not in (None, repository.branches[branch]):
                    raise HubError(412, "A commit has happened since. Please refresh and try again.")
            elif key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.blobs:
                    raise HubError(400, f"Object {value['oid']} of {value['path']} was not uploaded.")
                files[value["path"]] = self.blobs[value["oid"]]
            elif key in ("deletedFile", "deletedFolder"):
                gone = [path for path in files if path == value["path"] or path.startswith(value["path"] + "/")]
                if not gone:
                    raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
                for path in gone:
                    del files[path]
        sha = repository.commit(branch, {k: v for k, v in files.items() if k not in self.lose}, summary)
        return 200, {"success": True, "commitOid": sha, "commitUrl": f"{self.url}/{repo_id}/commit/{sha}"}, {}

    def validate_yaml(self, request):
        import yaml

        parts = request.json()["content"].split("---\n")
        try:
            metadata = yaml.safe_load(parts[1]) if len(parts) > 2 and not parts[0] else None
        except yaml.YAMLError as error:
            return 400, {"errors": [{"message": str(error)}], "warnings": []}, {}
        warnings = [] if metadata else [{"message": "empty or missing yaml metadata in repo card"}]
        return 200, {"errors": [], "warnings": warnings}, {}

    def file(self, request, repo_id, revision, path):
        repository = self.readable(request, repo_id)
        sha = repository.resolve(revision)
        if repository.gated and self.namespaces(request).isdisjoint({repo_id.split("/")[0]}):
            raise HubError(403 if request.token else 401, f"Access to model {repo_id} is restricted.", "GatedRepo")
        if path not in repository.commits[sha]:
            raise HubError(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": sha})
        content = repository.commits[sha][path]
        entry = self.entry(path, content)
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if "lfs" not in entry:
            return 200, content, headers | {"ETag": f'"{entry["oid"]}"'}
        oid = entry["lfs"]["oid"]
        linked = {
            "X-Linked-ETag": f'"{oid}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.cdn_url}/cdn/{oid}",
        }
        self.blobs.setdefault(oid, content)
        return 302, b"", headers | linked

    def cdn(self, request, oid):
        return 200, self.blobs[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"}

    # What several answers share.

    def entry(self, path: str, content: bytes) -> dict:
        """A file in a listing: its git hash, and for LFS that of its content."""
        if not path.endswith(LFS_SUFFIXES):
            oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            return {"type": "file", "path": path, "size": len(content), "oid": oid}
        sha = hashlib.sha256(content).hexdigest()
        lfs = {"oid": sha, "size": len(content), "pointerSize": 134}
        return {"type": "file", "path": path, "size": len(content), "oid": sha[:40], "lfs": lfs}

    def namespaces(self, request) -> set[str]:
        return self.tokens[request.token][1] if request.token else set()

    def readable(self, request, repo_id: str) -> Repository:
        repository = self.repositories.get(repo_id)
        if repository is None or (repository.private and repo_id.split("/")[0] not in self.namespaces(request)):
            if request.token is None:  # whether it exists is not told
                raise HubError(401, "Invalid username or password.", "RepoNotFound")
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repository

    def writable(self, request, repo_id: str) -> Repository:
        repository = self.readable(request, repo_id)
        self.check_write(request, repo_id.split("/")[0])
        return repository

    def check_write(self, request, namespace: str):
        if request.token is None:
            raise HubError(401, "Invalid username or password.")
        if request.token == READER or namespace not in self.namespaces(request):
            raise HubError(403, f"You don't have the rights to write to the namespace {namespace}")


REPO = r"(?P<repo_id>[^/]+/[^/]+)"
API, REV = f"/api/models/{REPO}", "(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", FakeHub.whoami),
    ("POST", "/api/repos/create", FakeHub.create),
    ("POST", "/api/validate-yaml", FakeHub.validate_yaml),
    ("GET", API, FakeHub.info),
    ("GET", f"{API}/revision/{REV}", FakeHub.info),
    ("GET", f"{API}/tree/{REV}(?:/(?P<folder>.+))?", FakeHub.tree),
    ("POST", f"{API}/paths-info/{REV}", FakeHub.paths_info),
    ("GET", f"{API}/refs", FakeHub.refs),
    ("POST", f"{API}/branch/(?P<name>[^/]+)", FakeHub.branch),
    ("POST", f"{API}/tag/{REV}", FakeHub.tag),
    ("POST", f"{API}/preupload/{REV}", FakeHub.preupload),
    ("POST", f"/{REPO}\\.git/info/lfs/objects/batch", FakeHub.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", FakeHub.upload),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", FakeHub.verify_upload),
    ("POST", f"{API}/commit/(?P<branch>[^/]+)", FakeHub.commit),
    ("GET", "/cdn/(?P<oid>[0-9a-f]{64})", FakeHub.cdn),
    ("GET", f"/{REPO}/resolve/{REV}/(?P<path>.+)", FakeHub.file),
]


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A connection that a client or a fault broke is no news."""


@contextmanager
def running_hub():
    """A [`FakeHub`] that serves on a free port of 127.0.0.1 while the block runs."""
    hub = FakeHub()
    server = _Server(("127.0.0.1", 0), partial(Handler, hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    hub.cdn_url = f"http://localhost:{server.server_address[1]}"  # another host to the client, as the real one
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
