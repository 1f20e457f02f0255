"""One commit to the Hub, looked at afterwards; what failed is said together with what is on the Hub now."""

import hashlib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import sha_fileobj

from urm_hf.hub.errors import LOG_IN, HubError, explained, first_line
from urm_hf.hub.folder import HUB_ID, PICKLES
from urm_hf.modeling.members_urm import ADAPTER_CONFIG

# root files of an earlier push that would mix with this one
SUPERSEDED = ("*.safetensors", "*.safetensors.index.json", "*.py", ADAPTER_CONFIG, *PICKLES)


@dataclass
class PushResult:
    """
    Args:
        commit_info: what `huggingface_hub` says of the commit; None after a dry run.
        files: what was uploaded. left_out: what of the folder was not. removed: what an earlier push had left.
        notes: what else a user should know. missing: of a dry run, what has to be done before it can be uploaded.
        cards: of a dry run, the cards that it wrote.
    """

    repo_id: str
    commit_info: CommitInfo | None
    files: list[str]
    left_out: list[str]
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    private: bool | None = None
    tag: str | None = None
    is_adapter: bool = False
    missing: list[str] = field(default_factory=list)
    cards: list[Path] = field(default_factory=list)

    @property
    def commit(self) -> str | None:
        return self.commit_info.oid if self.commit_info else None

    @property
    def load_line(self) -> str:
        """Loads exactly what was pushed; after a dry run, what the branch will hold."""
        pin = f', revision="{self.commit}"' if self.commit else ""
        if self.is_adapter:
            return f'urm_hf.load_adapter("{self.repo_id}"{pin})'
        return f'AutoModel.from_pretrained("{self.repo_id}"{pin}, trust_remote_code=True)'


@dataclass(frozen=True)
class Target:
    """
    Where a push goes.

    Args:
        repo_id (`str`): "org/name".
        revision (`str`, *optional*): branch.
        message (`str`, *optional*): of the commit.
        tag (`str`, *optional*): that the commit gets.
        token (`str`, *optional*): of an account that may write there.
        private (`bool`, *optional*): of a repository that is created; None takes what is there.
    """

    repo_id: str
    revision: str | None = None
    message: str | None = None
    tag: str | None = None
    token: str | None = None
    private: bool | None = True


def check_target(target: Target, *, dry_run: bool = False):
    """What can be said of a push before any work is done: a ValueError or a HubError, or nothing."""
    repo_id = target.repo_id
    if not HUB_ID.fullmatch(repo_id):
        raise ValueError(f"`repo_id` must be 'org/name', of letters, digits, '-', '_' and '.', got {repo_id!r}.")
    validate_repo_id(repo_id)
    if target.token is None and get_token() is None and not dry_run:
        raise HubError(f"pushing to {repo_id} needs a token: {LOG_IN}.")


def upload(target: Target, additions: list[CommitOperationAdd], message: str) -> PushResult:
    """
    One commit of these files without those of an earlier push; what arrived is compared with what was sent.

    Args:
        target (`Target`): where they go.
        additions (`list[CommitOperationAdd]`): the files.
        message (`str`): of the commit, where the target has none.

    Raises:
        ValueError: the repository is public and should not be.
        HubError: something failed; the message says what is on the Hub now.
    """
    api, repo_id, private = HfApi(token=target.token), target.repo_id, target.private
    revision, tag, message = target.revision, target.tag, target.message or message
    branch, before = revision or "main", None
    try:
        existed, public = _look(api, repo_id)
    except Exception as error:  # of the client or of its HTTP library
        raise HubError(_explain_failure(api, repo_id, branch, None, error)) from error
    if existed and public and private:
        raise ValueError(
            f"{repo_id} exists and is public: push there with `--public` (`private=False`), or name another."
        )
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        # the parent of our commit: if somebody else pushes in between, the Hub refuses instead of mixing both
        before = api.model_info(repo_id, revision=branch).sha
        ours = {addition.path_in_repo for addition in additions}
        removed = [name for name in api.list_repo_files(repo_id, revision=branch) if _is_superseded(name, ours)]
        operations: list[Any] = [*additions, *(CommitOperationDelete(path_in_repo=name) for name in removed)]
        info = api.create_commit(repo_id, operations, commit_message=message, revision=branch, parent_commit=before)
    except Exception as error:  # and of the threads that upload
        raise HubError(_explain_failure(api, repo_id, branch, before, error, existed=existed)) from error
    # looked at, not believed: this is what others will load, under a commit that can be pinned for ever
    wrong = _differences(api, repo_id, info.oid, additions)
    if wrong:
        raise HubError(
            f"{repo_id} at commit {info.oid} is not what was pushed, do not use it: {', '.join(wrong)}. Push again."
        )
    if tag is not None:  # last, so that a tag never stands on a commit that was not looked at
        api.create_tag(repo_id, tag=tag, revision=info.oid)
    state = api.model_info(repo_id, revision=info.oid)
    notes = []
    if state.private and private is False:
        notes.append(f"{repo_id} existed and stays private: its settings on the Hub can make it public")
    return PushResult(repo_id, info, sorted(ours), [], removed, notes, state.private, tag)


def _look(api: HfApi, repo_id: str) -> tuple[bool, bool]:
    """Whether a repository exists and whether it is public."""
    try:
        return True, not api.model_info(repo_id).private
    except RepositoryNotFoundError:
        return False, False


def _is_superseded(name: str, ours: set[str]) -> bool:
    # files in folders are somebody else's: `SUPERSEDED` lists what a push writes, and that lies at the root
    return name not in ours and "/" not in name and any(fnmatch(name, pattern) for pattern in SUPERSEDED)


def _explain_failure(
    api: HfApi, repo_id: str, branch: str, before: str | None, error: Exception, *, existed: bool = False
) -> str:
    """What went wrong, and what is on the Hub now."""
    why = explained(error) or first_line(error)
    if before is None:
        return f"pushing to {repo_id} failed before anything was uploaded: {why}"
    try:
        after = api.model_info(repo_id, revision=branch).sha
    except Exception:  # the Hub may be gone altogether
        return f"pushing to {repo_id} failed, and the Hub does not say in which state it is: {why}"
    if after != before:
        return f"pushing to {repo_id} failed, but {branch} is at a new commit {after}; look at it: {why}"
    state = f"is as before, at commit {before}" if existed else "was created and holds no model"
    return f"pushing to {repo_id} failed: {why} Nothing was published: {repo_id} {state}."


def _differences(api: HfApi, repo_id: str, commit: str, additions: list[CommitOperationAdd]) -> list[str]:
    """Files that a commit does not have, or has with another content."""
    tree = api.list_repo_tree(repo_id, recursive=True, revision=commit)
    there = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    wrong = []
    for addition in additions:
        entry, size = there.get(addition.path_in_repo), addition.upload_info.size
        if entry is None:
            wrong.append(f"{addition.path_in_repo} is missing")
        elif entry.size != size:
            wrong.append(f"{addition.path_in_repo} has {entry.size} bytes instead of {size}")
        elif (entry.lfs.sha256 if entry.lfs else entry.blob_id) != _hash(addition, bool(entry.lfs)):
            wrong.append(f"{addition.path_in_repo} has another content")
    return wrong


def _hash(addition: CommitOperationAdd, lfs: bool) -> str:
    """As the Hub lists it: SHA-256 of a large file, git's hash of a small one."""
    with addition.as_file() as file:
        if lfs:
            return sha_fileobj(file).hex()
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
