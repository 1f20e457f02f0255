"""
Publishing a URM or an ensemble on the Hub: one commit that holds all that others need, or none.

What each way uploads:

| way | weights, config, code | tokenizer, chat template | card | reference scores, plot |
|---|---|---|---|---|
| `push`, `urm push`, `trainer.push_to_hub` | yes | yes | whole | yes |
| `model.push_to_hub` | yes | no: it has none | short | no |

Only the files of a model are uploaded: no checkpoints, logs, data, or pickles.
"""

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, RepoFile, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils.sha import sha_fileobj
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from urm_hf.card import is_generated, model_card
from urm_hf.checkpoint_files import read_json
from urm_hf.hub_errors import LOG_IN, HubError, first_line, one_line
from urm_hf.model_folder import (
    CARD,
    PICKLES,
    PLOT,
    ModelFolder,
    for_transformers_4,
    local_paths,
    read_folder,
    without_local_paths,
)
from urm_hf.reference import reference_scores, write_reference
from urm_hf.results import Result, read_results

# root files of an earlier push that would mix with this one
SUPERSEDED = ("*.safetensors", "*.safetensors.index.json", "*.py", "adapter_config.json", *PICKLES)


@dataclass
class PushResult:
    """
    Args:
        commit_info: what `huggingface_hub` says of the commit; None after a dry run.
        files: what was uploaded. left_out: what of the folder was not. removed: what an earlier push had left.
        notes: what else a user should know.
    """

    repo_id: str
    commit_info: CommitInfo | None
    files: list[str]
    left_out: list[str]
    removed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    private: bool | None = None
    tag: str | None = None

    @property
    def commit(self) -> str | None:
        return self.commit_info.oid if self.commit_info else None

    @property
    def load_line(self) -> str:
        """Loads exactly what was pushed."""
        return f'AutoModel.from_pretrained("{self.repo_id}", revision="{self.commit}", trust_remote_code=True)'


def push(
    model: str | Path | PreTrainedModel,
    repo_id: str,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    private: bool | None = True,
    revision: str | None = None,
    commit_message: str | None = None,
    tag: str | None = None,
    token: str | None = None,
    license: str | None = None,
    datasets: Sequence[str] | None = None,
    base_model: str | None = None,
    results: str | Path | Sequence[Result] | None = None,
    card_tags: Sequence[str] = (),
    new_card: bool = False,
    dtype: str = "float32",
    dry_run: bool = False,
) -> PushResult:
    """
    Publishes a complete model in one commit, and looks whether it arrived.

    ```python
    result = push("urm", "org/urm", license="apache-2.0")
    result.commit, result.load_line
    ```

    Args:
        model: a folder that `save_pretrained` wrote, of a URM or an ensemble of repositories, with its tokenizer;
            card, reference scores and plot are written into it. Or a model, together with `tokenizer`.
        repo_id: "org/name"; created if it does not exist.
        private: of a repository that is created. An existing public one is refused unless this is False, so that
            nothing is published by mistake; None takes what is there.
        revision: branch, created if it does not exist. tag: given to the commit.
        license, datasets, base_model: for the card's metadata (`license="apache-2.0"`).
        results: measured results for the card, or their file; default: what `urm_hf.results` finds in the folder.
        card_tags: more tags for the card's metadata.
        new_card: replaces a README.md that was edited by hand, which is kept by default.
        dtype: that the reference scores are computed in.
        dry_run: writes and checks everything, and uploads nothing.

    Raises:
        ValueError: the folder is not complete; all that is wrong is named, and nothing was uploaded.
        HubError: the upload failed; the message says what is on the Hub now.
    """
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise ValueError("`tokenizer` is missing: a model without it cannot be used by others.")
        with tempfile.TemporaryDirectory() as temporary:
            model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
            options = {"results": results, "new_card": new_card, "dtype": dtype, "dry_run": dry_run}
            named = {"license": license, "datasets": datasets, "base_model": base_model, "token": token, "tag": tag}
            named["card_tags"] = card_tags
            place = {"private": private, "revision": revision, "commit_message": commit_message}
            return push(temporary, repo_id, **place, **named, **options)  # type: ignore[arg-type]
    if repo_id.count("/") != 1:
        raise ValueError(f"`repo_id` must be 'org/name', got {repo_id!r}.")
    folder = _complete(read_folder(model))
    about = {"license": license, "datasets": datasets, "base_model": base_model, "tag": tag, "tags": card_tags}
    notes = _describe(folder, repo_id, about, results, new_card, dtype, token)
    folder = _complete(read_folder(model))  # with what was written just now
    if dry_run:
        return PushResult(repo_id, None, folder.files, folder.left_out, [], notes, private, tag)
    additions, scrubbed = _additions(folder)
    message = commit_message or f"Upload {'ensemble' if folder.is_ensemble else 'model'}"
    result = _upload(HfApi(token=token), repo_id, additions, private, revision, message, tag)
    result.left_out, result.notes = folder.left_out, [*notes, *scrubbed]
    return result


def _complete(folder: ModelFolder) -> ModelFolder:
    if folder.problems:
        listed = "; ".join(folder.problems)
        raise ValueError(f"{folder.path} is not complete, nothing was uploaded: {listed}.")
    return folder


def _describe(folder: ModelFolder, repo_id: str, about: dict, results, new_card: bool, dtype: str, token) -> list[str]:
    """Writes reference scores, plot and card into the folder; returns what a user should know of it."""
    notes = []
    path = folder.path / CARD
    keep = path.is_file() and not new_card and not is_generated(path.read_text(encoding="utf-8"))
    given = [name for name in ("license", "datasets", "base_model") if about[name]]
    if keep and given:
        raise ValueError(
            f"{', '.join(given)}: for a card that is written now, but {path} was edited by hand and is kept. Add it "
            "there, or have a new card written (`new_card=True`, `--new-card`)."
        )
    try:
        reference = reference_scores(folder.path, dtype, token)
    except ValueError as error:
        raise ValueError(f"{folder.path} does not score the reference conversations: {error}") from error
    write_reference(folder.path, reference)
    try:
        from urm_hf.plots import plot_reference

        plot = plot_reference(reference["conversations"], folder.path / PLOT).name
    except ImportError:
        plot = None
        notes.append("no plot in the card: matplotlib is not installed")
    if keep:
        return [*notes, f"{CARD} was edited by hand and is kept"]
    measured = results
    if results is None or isinstance(results, (str, Path)):
        measured = read_results(folder.path if results is None else results)
    if results is not None and not measured:
        raise ValueError(f"{results} has no results that a card can show.")
    card = model_card(folder.config, repo_id, reference=reference, results=measured, plot=plot, **about)
    path.write_text(str(card), encoding="utf-8")
    if not about["license"]:
        notes.append("the card names no licence: `--license` does")
    return notes


def _additions(folder: ModelFolder) -> tuple[list[CommitOperationAdd], list[str]]:
    """
    The files as operations. Two may differ from the folder's, and are then named in the notes: local paths in the
    config that are only for people are reduced to names, and the tokenizer's class gets the name it has everywhere.
    """
    contents: dict[str, bytes | Path] = {name: folder.path / name for name in folder.files}
    notes = []
    found = [key for key, _ in local_paths(folder.config)]
    if found:
        contents["config.json"] = _json(without_local_paths(folder.config))
        notes.append(f"config.json: local paths were reduced to names in {', '.join(found)}")
    tokenizer = read_json(folder.path / "tokenizer_config.json")
    if for_transformers_4(tokenizer) != tokenizer:
        contents["tokenizer_config.json"] = _json(for_transformers_4(tokenizer))
        notes.append("tokenizer_config.json: in the words of transformers 4, which 5 reads too")
    return [CommitOperationAdd(path_in_repo=k, path_or_fileobj=content) for k, content in contents.items()], notes


def _json(content: dict) -> bytes:
    return (json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _upload(api: HfApi, repo_id: str, additions, private, revision, message: str, tag: str | None) -> PushResult:
    if api.token is None and get_token() is None:
        raise HubError(f"pushing to {repo_id} needs a token: {LOG_IN}.")
    branch, before = revision or "main", None
    try:
        existed, public = _look(api, repo_id)
    except Exception as error:  # of the client or of its HTTP library
        raise HubError(_failed(api, repo_id, branch, False, None, error)) from error
    if existed and public and private:
        raise ValueError(
            f"{repo_id} exists and is public: push there with `--public` (`private=False`), or name another."
        )
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        before = api.model_info(repo_id, revision=branch).sha
        ours = {addition.path_in_repo for addition in additions}
        removed = [name for name in api.list_repo_files(repo_id, revision=branch) if _is_superseded(name, ours)]
        operations = [*additions, *(CommitOperationDelete(path_in_repo=name) for name in removed)]
        info = api.create_commit(repo_id, operations, commit_message=message, revision=branch, parent_commit=before)
    except Exception as error:  # and of the threads that upload
        raise HubError(_failed(api, repo_id, branch, existed, before, error)) from error
    wrong = _differences(api, repo_id, info.oid, additions)
    if wrong:
        raise HubError(
            f"{repo_id} at commit {info.oid} is not what was pushed, do not use it: {', '.join(wrong)}. Push again."
        )
    if tag is not None:
        api.create_tag(repo_id, tag=tag, revision=info.oid)
    state = api.model_info(repo_id, revision=info.oid)
    return PushResult(repo_id, info, sorted(ours), [], removed, [], state.private, tag)


def _look(api: HfApi, repo_id: str) -> tuple[bool, bool]:
    """Whether a repository exists and whether it is public."""
    try:
        return True, not api.model_info(repo_id).private
    except RepositoryNotFoundError:
        return False, False


def _is_superseded(name: str, ours: set[str]) -> bool:
    return name not in ours and "/" not in name and any(fnmatch(name, pattern) for pattern in SUPERSEDED)


def _failed(api: HfApi, repo_id: str, branch: str, existed: bool, before: str | None, error: Exception) -> str:
    """What went wrong, and what is on the Hub now."""
    cause = one_line(error)
    why = first_line(error) if cause == str(error) else cause
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
