"""What a Hub answers: one function for each request that `huggingface_hub` makes about models."""

import base64
import hashlib
import json
from urllib.parse import parse_qs

from tests.helpers.hub_repositories import INITIAL, LFS_SUFFIXES, READER, HubError, Repository, RepositoryStore


class HubAnswers(RepositoryStore):
    """
    Each answer takes a request and returns (status, body, headers); a dict or list is sent as JSON.

    Attributes:
        url, cdn_url: where the Hub and its large files are.
        fail_upload: "500" or "drop" (the connection breaks half way) for the LFS upload number `fail_upload_at`, also
            when the client tries again. fail_commit: status that every commit is answered with.
        lose: paths that vanish from a commit though it is answered as a success.
    """

    def __init__(self):
        super().__init__()
        self.uploads: list[str] = []  # in the order in which they were first tried
        self.fail_upload: str | None = None
        self.fail_upload_at = 1
        self.fail_commit: int | None = None
        self.lose: set[str] = set()
        self.url = self.cdn_url = ""

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


REPO = r"(?P<repo_id>[^/]+(?:/[^/]+)?)"
API, REV = f"/api/models/{REPO}", "(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", HubAnswers.whoami),
    ("POST", "/api/repos/create", HubAnswers.create),
    ("POST", "/api/validate-yaml", HubAnswers.validate_yaml),
    ("GET", API, HubAnswers.info),
    ("GET", f"{API}/revision/{REV}", HubAnswers.info),
    ("GET", f"{API}/tree/{REV}(?:/(?P<folder>.+))?", HubAnswers.tree),
    ("POST", f"{API}/paths-info/{REV}", HubAnswers.paths_info),
    ("GET", f"{API}/refs", HubAnswers.refs),
    ("POST", f"{API}/branch/(?P<name>[^/]+)", HubAnswers.branch),
    ("POST", f"{API}/tag/{REV}", HubAnswers.tag),
    ("POST", f"{API}/preupload/{REV}", HubAnswers.preupload),
    ("POST", f"/{REPO}\\.git/info/lfs/objects/batch", HubAnswers.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]{64})", HubAnswers.upload),
    ("POST", "/lfs/(?P<oid>[0-9a-f]{64})/verify", HubAnswers.verify_upload),
    ("POST", f"{API}/commit/(?P<branch>[^/]+)", HubAnswers.commit),
    ("GET", "/cdn/(?P<oid>[0-9a-f]{64})", HubAnswers.cdn),
    ("GET", f"/{REPO}/resolve/{REV}/(?P<path>.+)", HubAnswers.file),
]
