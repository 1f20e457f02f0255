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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, ModelCard
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from urm_hf import __version__
from urm_hf.checkpoints.files import dump_json, read_json, write_file
from urm_hf.data.template_dates import TEMPLATE_DATE, fix_template_date
from urm_hf.hub.adapter_base import pin_base
from urm_hf.hub.card.card import is_generated, model_card
from urm_hf.hub.card.result_files import read_results
from urm_hf.hub.card.results import Result
from urm_hf.hub.folder import (
    CARD,
    PLOT,
    ModelFolder,
    code_files,
    installed_code,
    local_paths,
    read_folder,
    without_local_paths,
)
from urm_hf.hub.reference import reference_scores, write_reference
from urm_hf.hub.upload import PushResult, check_target, upload
from urm_hf.modeling.card_urm import CARD_BLANK
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
    Publishes a complete model in one commit, and looks whether it arrived.

    ```python
    result = push("urm", "org/urm", license="apache-2.0")
    result.commit, result.load_line
    ```

    Args:
        model: a folder that `save_pretrained` wrote, of a URM, an adapter of a base on the Hub, or an ensemble of
            repositories, with its tokenizer; card, reference scores and plot are written into it, and into an adapter
            the commit of its base. Or a model, together with `tokenizer`.
        repo_id: "org/name"; created if it does not exist.
        private: of a repository that is created. An existing public one is refused unless this is False, so that
            nothing is published by mistake; None takes what is there.
        revision: branch, created if it does not exist. tag: given to the commit.
        license, datasets, base_model: for the card's metadata (`license="apache-2.0"`). Licence and datasets that an
            earlier push wrote into the folder's card are kept.
        results: measured results for the card, or their file; default: what `read_results` finds in the folder.
        card_tags: more tags for the card's metadata.
        overwrite_card: replaces a README.md that was edited by hand, which is kept by default. `new_card` is its
            former name.
        dtype: that the reference scores are computed in.
        dry_run: writes and checks everything, and uploads nothing.

    Raises:
        ValueError: the folder is not complete; all that is wrong is named, and nothing was uploaded.
        HubError: the upload failed; the message says what is on the Hub now.
    """
    if new_card is not None:
        warnings.warn("`new_card` is now `overwrite_card`.", DeprecationWarning, stacklevel=2)
        overwrite_card = new_card
    if isinstance(model, PreTrainedModel):
        if tokenizer is None:
            raise ValueError("`tokenizer` is missing: a model without it cannot be used by others.")
        with tempfile.TemporaryDirectory() as temporary:
            model.save_pretrained(temporary)
            save_tokenizer(tokenizer, temporary)
            options = {"results": results, "overwrite_card": overwrite_card, "dtype": dtype, "dry_run": dry_run}
            named = {"license": license, "datasets": datasets, "base_model": base_model, "token": token, "tag": tag}
            named["card_tags"] = card_tags
            place = {"private": private, "revision": revision, "commit_message": commit_message}
            return push(temporary, repo_id, **place, **named, **options)  # type: ignore[arg-type]
    folder = _complete(read_folder(model))
    check_target(repo_id, token, dry_run)
    notes = [] if folder.adapter is None else pin_base(folder.path, folder.adapter, token)
    about = {"license": license, "datasets": datasets, "base_model": base_model, "tag": tag, "tags": card_tags}
    notes += _describe(folder, repo_id, about, results, overwrite_card, dtype, token)
    folder = _complete(read_folder(model))  # with what was written just now
    is_adapter = folder.adapter is not None
    notes += _changed_code(folder)
    if dry_run:
        return PushResult(repo_id, None, folder.files, folder.left_out, [], notes, private, tag, is_adapter)
    additions, scrubbed = _additions(folder)
    kind = "ensemble" if folder.is_ensemble else "adapter" if is_adapter else "model"
    result = upload(HfApi(token=token), repo_id, additions, private, revision, commit_message or f"Upload {kind}", tag)
    result.left_out, result.is_adapter = folder.left_out, is_adapter
    result.notes = [*notes, *scrubbed, *result.notes]
    return result


def _changed_code(folder: ModelFolder) -> list[str]:
    """Says which of the code files, which run where somebody trusts the repository, are not this version's."""
    changed = [name for name in code_files(folder) if (folder.path / name).read_bytes() != installed_code(name)]
    if not changed:
        return []
    return [
        f"{', '.join(changed)}: not as in urm-hf {__version__}, and published as in the folder; `urm verify` tells"
    ]


def _complete(folder: ModelFolder) -> ModelFolder:
    if folder.problems:
        listed = "; ".join(folder.problems)
        raise ValueError(f"{folder.path} is not complete, nothing was uploaded: {listed}.")
    return folder


def _describe(
    folder: ModelFolder, repo_id: str, about: dict, results, overwrite_card: bool, dtype: str, token
) -> list[str]:
    """Writes reference scores, plot and card into the folder; returns what a user should know of it."""
    notes = []
    path = folder.path / CARD
    former = path.read_text(encoding="utf-8") if path.is_file() and not overwrite_card else None
    keep = former is not None and not is_generated(former)
    given = [name for name in ("license", "datasets", "base_model") if about[name]]
    if keep and given:
        raise ValueError(
            f"{', '.join(given)}: for a card that is written now, but {path} was edited by hand and is kept. Add it "
            "there, or have a new card written (`overwrite_card=True`, `--overwrite-card`)."
        )
    if keep and CARD_BLANK in (former or ""):
        raise ValueError(
            f"{path} is a form with blanks, {CARD_BLANK!r}: fill them in, or have a card written "
            "(`overwrite_card=True`, `--overwrite-card`)."
        )
    about = about | _kept(former, about) if former and not keep else about
    try:
        reference = reference_scores(folder.path, dtype, token)
    except ValueError as error:
        raise ValueError(f"{folder.path} does not score the reference conversations: {error}") from error
    write_reference(folder.path, reference)
    try:
        from urm_hf.hub.card.plot import plot_reference

        if (folder.path / PLOT).is_symlink():
            (folder.path / PLOT).unlink()  # to be replaced, not written through
        plot = plot_reference(reference["conversations"], folder.path / PLOT).name
    except ImportError:
        plot = None
        notes.append("no plot in the card: matplotlib is not installed")
    if keep:
        return [*notes, f"{CARD} was edited by hand and is kept"]
    measured = results
    if results is None or isinstance(results, (str, Path)):
        measured = read_results(folder.path if results is None else results, [str(folder.path), repo_id])
    if results is not None and not measured:
        raise ValueError(f"{results} has no results that a card can show.")
    described = {"adapter": folder.adapter, "reference": reference, "results": measured, "plot": plot}
    card = model_card(folder.config, repo_id, **described, **about)  # type: ignore[arg-type]
    write_file(path, str(card).encode())
    if not about.get("license"):
        notes.append("the card names no licence: `--license` does")
    return notes


def _kept(former: str, about: dict[str, Any]) -> dict[str, Any]:
    """Licence and datasets of the card that an earlier push wrote, where none are given now."""
    data = ModelCard(former, ignore_metadata_errors=True).data
    return {name: data.get(name) for name in ("license", "datasets") if not about[name] and data.get(name)}


def _additions(folder: ModelFolder) -> tuple[list[CommitOperationAdd], list[str]]:
    """
    The files as operations. Some may differ from the folder's, and are then named in the notes: local paths in the
    config that are only for people are reduced to names, the tokenizer's class gets the name it has everywhere, and
    chat templates print the date that they were scored with in place of today's.
    """
    contents: dict[str, bytes | Path] = {name: folder.path / name for name in folder.files}
    notes = []
    found = [key for key, _ in local_paths(folder.config)]
    if found:
        contents["config.json"] = _dump(without_local_paths(folder.config), folder.path / "config.json")
        notes.append(f"config.json: local paths were reduced to names in {', '.join(found)}")
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
