"""The repositories of a Hub in memory: commits, branches, tags, and who may read and write them."""

import hashlib
import json
import threading
from dataclasses import dataclass, field

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


class RepositoryStore:
    """
    Repositories by name, and the large files that were uploaded for them.

    Attributes:
        blobs: content of large files (LFS) by sha256. tokens: (user, namespaces) by token; READER's may not write.
        page: entries on one page of a listing.
    """

    tokens = {WRITER: ("writer", {"writer", "org"}), READER: ("reader", {"org"}), STRANGER: ("stranger", {"stranger"})}

    def __init__(self):
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.page = 4
        self.lock = threading.RLock()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """What a commit holds, without what every new repository holds."""
        repository = self.repositories[repo_id]
        return {k: v for k, v in repository.commits[repository.resolve(revision)].items() if k not in INITIAL}

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
