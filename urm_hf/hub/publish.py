"""
Publishing a URM, a LoRA adapter of one or an ensemble on the Hub: one commit that holds all that others need, or none.

What each way uploads:

| way | weights, config, code | tokenizer, chat template | card | reference scores, plot |
|---|---|---|---|---|
| `push`, `urm push`, `trainer.push_to_hub` | yes | yes | whole | yes |
| `model.push_to_hub` | yes | no: it has none | short | no |

Only the files of a model are uploaded: no checkpoints, logs, data, or pickles.
"""

import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from urm_hf import __version__
from urm_hf.checkpoints.files import dump_json, explain_full_disk, read_json
from urm_hf.data.template_dates import TEMPLATE_DATE, fix_template_date
from urm_hf.hub.adapter_base import pin_base
from urm_hf.hub.bundle import (
    add_heads,
    copy_ensemble,
    find_ensemble,
    list_local_members,
    name_members,
    pin_backbone,
    read_base,
)
from urm_hf.hub.card.results import Result
from urm_hf.hub.description import CardWishes, describe
from urm_hf.hub.folder import (
    CARD,
    HUB_ID,
    ModelFolder,
    code_files,
    installed_code,
    local_paths,
    read_folder,
    without_local_paths,
)
from urm_hf.hub.upload import PushResult, Target, check_target, upload
from urm_hf.modeling.base_urm import BASE_WEIGHTS
from urm_hf.modeling.tokenizer_urm import save_tokenizer, translate_for_transformers_4


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
    overwrite_card: bool = False,
    dtype: str = "float32",
    dry_run: bool = False,
    new_card: bool | None = None,
) -> PushResult:
    """
    Publishes a complete model in one commit, and looks whether it arrived: `push("urm", "org/urm").load_line`.

    Args:
        model (`str`, `Path` or `PreTrainedModel`): a folder that `save_pretrained` wrote, with its tokenizer, of a
            URM, an adapter of a base on the Hub, or an ensemble; what is written for the push (card, scores, plot, the
            commit of a base) is written into it. Members of an ensemble that are folders here are pushed with it:
            heads on one backbone into its own repository, others into "org/name-member-0" and so on. Or the folder
            that `urm train ensemble` wrote. Or a model, together with `tokenizer`.
        repo_id (`str`): "org/name"; created if it does not exist.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): that of a model which is no folder.
        private (`bool`, *optional*, defaults to `True`): of a repository that is created; an existing public one is
            refused unless this is False, so that nothing is published by mistake. None takes what is there.
        revision (`str`, *optional*): branch, created if it does not exist.
        commit_message (`str`, *optional*): of the commit.
        tag (`str`, *optional*): given to the commit.
        token (`str`, *optional*): of an account that may write there; default: the one that is logged in.
        license (`str`, *optional*), datasets (`Sequence[str]`, *optional*): for the card; by default those that an
            earlier push wrote are kept.
        base_model (`str`, *optional*): for the card, and where heads that are saved alone find their backbone; by
            default the one that the config names.
        results (`str`, `Path` or `Sequence[Result]`, *optional*): for the card; by default those that an earlier push
            of the same weights was given, or else of `read_results(folder)`.
        card_tags (`Sequence[str]`, *optional*): more tags for the card.
        overwrite_card (`bool`, defaults to `False`): replaces also a README.md that was edited by hand.
        dtype (`str`, defaults to `"float32"`): that the reference scores are computed in.
        dry_run (`bool`, defaults to `False`): writes and checks everything, and uploads nothing. What would be
            refused because others could not load it is in `missing` of the result.
        new_card (`bool`, *optional*): former name of `overwrite_card`.

    Raises:
        ValueError: the folder is not complete; all that is wrong is named, and nothing was uploaded.
        HubError: the upload failed; the message says what is on the Hub now.
    """
    if new_card is not None:
        warnings.warn("`new_card` is now `overwrite_card`.", DeprecationWarning, stacklevel=2)
    overwrite = bool(overwrite_card or new_card)
    about = CardWishes(license, datasets, base_model, tag, card_tags, results, overwrite=overwrite)
    target = Target(repo_id, revision, commit_message, tag, token, private=private)
    with _as_folder(model, tokenizer) as folder:
        path = find_ensemble(Path(folder))
        members = list_local_members(path)
        if members:
            return _push_ensemble(path, members, target, about, dtype, dry_run=dry_run)
        result = _push_folder(path, target, about, dtype, dry_run=dry_run)
        if isinstance(model, PreTrainedModel):
            result.cards = []  # gone with the folder that the model was saved to
        return result


def _push_ensemble(
    path: Path, members: Sequence[Path | None], target: Target, about: CardWishes, dtype: str, *, dry_run: bool
) -> PushResult:
    """An ensemble and its members: heads in one repository with it, whole models in one each, before it."""
    check_target(target, dry_run=dry_run)
    bases = [read_base(member) for member in members]
    if about.base_model is None and bases[0] and HUB_ID.fullmatch(str(bases[0].get("name"))):
        about = replace(about, base_model=bases[0]["name"])
    with copy_ensemble(path) as copy:
        if all(bases):
            add_heads(copy, [member for member in members if member is not None], about.base_model, target.token)
            try:
                result = _push_folder(copy, target, about, dtype, dry_run=dry_run)
                result.cards = [path / CARD for _ in result.cards]  # where the copy's is written back to
                return result
            except ValueError as error:  # which tells of the copy, that nobody has seen
                raise ValueError(str(error).replace(str(copy), str(path))) from error
        config = read_json(path / "config.json")
        names, notes, files = list(config["members"]), list[str](), list[str]()
        revisions = list(config.get("revisions") or [None] * len(names))
        for number, member in enumerate(members):
            if member is None:
                continue
            names[number] = f"{target.repo_id}-member-{number}"
            own = replace(about, results=None)  # what was measured is the ensemble's
            pushed = _push_folder(member, replace(target, repo_id=names[number]), own, dtype, dry_run=dry_run)
            revisions[number] = pushed.commit
            files += [f"{names[number]}/{file}" for file in pushed.files]
            notes.append(
                f"member {number}: {names[number]}" + (f" at commit {pushed.commit}" if pushed.commit else "")
            )
        if dry_run:  # the ensemble names commits, which there are none of
            left = (
                f"the ensemble itself, {target.repo_id}, is looked at, and its card written, when its members are on "
                "the Hub: it names their commits"
            )
            result = PushResult(target.repo_id, None, files, [], [], [*notes, left], target.private, target.tag)
            result.cards = [member / CARD for member in members if member is not None]
            return result
        name_members(copy, names, revisions)
        result = _push_folder(copy, target, about, dtype, dry_run=False)
        result.notes = [*notes, *result.notes]
        return result


@contextmanager
def _as_folder(model: str | Path | PreTrainedModel, tokenizer: PreTrainedTokenizerBase | None) -> Iterator[str | Path]:
    """A folder with the model; one that is in memory is saved for as long as this lasts."""
    if not isinstance(model, PreTrainedModel):
        yield model
        return
    if tokenizer is None:
        raise ValueError("`tokenizer` is missing: a model without it cannot be used by others.")
    with tempfile.TemporaryDirectory() as temporary:
        with explain_full_disk(temporary):
            model.save_pretrained(temporary)
            save_tokenizer(tokenizer, temporary)
        yield temporary


def _push_folder(path: str | Path, target: Target, about: CardWishes, dtype: str, *, dry_run: bool) -> PushResult:
    folder = read_folder(path)  # before anything is written or asked of the Hub
    if folder.problems or not folder.config.get(BASE_WEIGHTS):
        _check_complete(folder, dry_run=dry_run)
    check_target(target, dry_run=dry_run)
    pinned = pin_backbone(folder.path, about.base_model, target.token)
    _check_complete(read_folder(path), dry_run=dry_run)
    notes = pinned if folder.adapter is None else pin_base(folder.path, folder.adapter, target.token)
    notes += describe(folder, target.repo_id, about, dtype, target.token)
    folder = _check_complete(read_folder(path), dry_run=dry_run)  # with what was written just now
    is_adapter = folder.adapter is not None
    notes += _name_changed_code(folder)
    if dry_run:
        result = PushResult(
            target.repo_id, None, folder.files, folder.left_out, [], notes, target.private, target.tag, is_adapter
        )
        result.missing, result.cards = folder.unshared, [folder.path / CARD]
        return result
    # built from what was just checked: paths of this machine are taken out on the way, and the folder keeps its own
    additions, changed = _build_additions(folder)
    kind = "ensemble" if folder.is_ensemble else "adapter" if is_adapter else "model"
    result = upload(target, additions, f"Upload {kind}")
    result.left_out, result.is_adapter = folder.left_out, is_adapter
    result.notes = [*notes, *changed, *result.notes]
    return result


def _name_changed_code(folder: ModelFolder) -> list[str]:
    """Says which of the code files, which run where somebody trusts the repository, are not this version's."""
    changed = [name for name in code_files(folder) if (folder.path / name).read_bytes() != installed_code(name)]
    if not changed:
        return []
    return [
        f"{', '.join(changed)}: not as in urm-hf {__version__}, and published as in the folder; `urm verify` tells"
    ]


def _check_complete(folder: ModelFolder, *, dry_run: bool) -> ModelFolder:
    """The same folder. What only others lack, a dry run tells of beside all that would be uploaded."""
    problems = folder.problems + ([] if dry_run else folder.unshared)
    if problems:
        listed = "; ".join(problems)
        raise ValueError(f"{folder.path} is not complete, nothing was uploaded: {listed}.")
    return folder


def _build_additions(folder: ModelFolder) -> tuple[list[CommitOperationAdd], list[str]]:
    """
    The files as operations. Some may differ from the folder's, and are then named in the notes: local paths in the
    config that are only for people are reduced to names and digests of training rows left out, the tokenizer's class
    gets the name it has everywhere, and chat templates print the date that they were scored with in place of today's.
    """
    contents: dict[str, bytes | Path] = {name: folder.path / name for name in folder.files}
    notes = []
    for name in [name for name in folder.files if name.split("/")[-1] == "config.json"]:
        config = read_json(folder.path / name)
        found = [key for key, _ in local_paths(config) if not key.startswith("members")]
        if without_local_paths(config) != config:
            contents[name] = _dump(without_local_paths(config), folder.path / name)
        if found:
            notes.append(f"{name}: local paths were reduced to names in {', '.join(found)}")
    path = folder.path / "tokenizer_config.json"
    tokenizer = read_json(path)
    if translate_for_transformers_4(tokenizer) != tokenizer:
        contents[path.name] = _dump(translate_for_transformers_4(tokenizer), path)
        notes.append("tokenizer_config.json: in the words of transformers 4, which 5 reads too")
    for name in [name for name in folder.files if name.endswith(".jinja")]:
        template = (folder.path / name).read_text(encoding="utf-8")
        if fix_template_date(template) != template:
            contents[name] = fix_template_date(template).encode()
            notes.append(
                f"{name}: prints {TEMPLATE_DATE:%d %b %Y} in place of today's date, as in training and scoring"
            )
    return [CommitOperationAdd(path_in_repo=k, path_or_fileobj=content) for k, content in contents.items()], notes


def _dump(content: dict[str, Any], path: Path) -> bytes:
    return dump_json(content, path, indent=2, sort_keys=True, ensure_ascii=False)
