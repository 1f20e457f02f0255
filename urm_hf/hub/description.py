"""What a push writes into a folder so that others know what they get: reference scores, a plot and the card."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from urm_hf.checkpoints.files import write_file
from urm_hf.hub.card.card import is_generated, model_card
from urm_hf.hub.card.kept_results import keep_results, read_kept_results
from urm_hf.hub.card.result_files import read_results
from urm_hf.hub.card.results import Result
from urm_hf.hub.folder import CARD, KEPT_RESULTS, PLOT, ModelFolder
from urm_hf.hub.reference import reference_scores, write_reference
from urm_hf.modeling.card_urm import CARD_BLANK


@dataclass(frozen=True)
class CardWishes:
    """
    What somebody who pushes wants the card to say.

    Args:
        license (`str`, *optional*), datasets (`Sequence[str]`, *optional*), base_model (`str`, *optional*): for the
            metadata.
        tag (`str`, *optional*): that the commit gets.
        tags (`Sequence[str]`): more tags for the metadata.
        results (`str`, `Path` or `Sequence[Result]`, *optional*): measured results, or their file.
        overwrite (`bool`): whether a card that was edited by hand is replaced.
    """

    license: str | None = None
    datasets: Sequence[str] | None = None
    base_model: str | None = None
    tag: str | None = None
    tags: Sequence[str] = ()
    results: str | Path | Sequence[Result] | None = None
    overwrite: bool = False

    def metadata(self) -> dict[str, Any]:
        """The arguments of `model_card` that are said here."""
        return {name: getattr(self, name) for name in ("license", "datasets", "base_model", "tag", "tags")}

    def fill_from(self, former: str) -> "CardWishes":
        """With licence and datasets of the card that an earlier push wrote, where none are given now."""
        data = ModelCard(former, ignore_metadata_errors=True).data
        return replace(
            self, license=self.license or data.get("license"), datasets=self.datasets or data.get("datasets")
        )


def describe(folder: ModelFolder, repo_id: str, about: CardWishes, dtype: str, token: str | None) -> list[str]:
    """
    Writes reference scores, plot and card into the folder.

    Args:
        folder (`ModelFolder`): a complete one.
        repo_id (`str`): where the card will be read.
        about (`CardWishes`): what the card is to say.
        dtype (`str`): that the reference scores are computed in.
        token (`str`, *optional*): for members or a base on the Hub.

    Returns:
        `list[str]`: what a user should know of it.

    Raises:
        ValueError: the model does not score, the results cannot be shown, or the card is kept and lacks something.
    """
    path = folder.path / CARD
    former = path.read_text(encoding="utf-8") if path.is_file() and not about.overwrite else None
    keep = former is not None and not is_generated(former)
    if keep:
        _check_kept_card(path, former or "", about)
    elif former is not None:
        about = about.fill_from(former)
    reference = _score_reference(folder.path, dtype, token)
    write_reference(folder.path, reference)
    plot, notes = _plot(folder.path, reference)
    if keep:
        return [*notes, f"{CARD} was edited by hand and is kept"]
    weights = {name: folder.config.get(name) for name in ("members", "revisions")} | reference["weights"]
    measured, told = _find_results(folder.path, repo_id, about, weights)
    notes += told
    shown = {"adapter": folder.adapter, "reference": reference, "results": measured, "plot": plot}
    card = model_card(folder.config, repo_id, **shown, **about.metadata())  # type: ignore[arg-type]
    write_file(path, str(card).encode())
    if not about.license:
        notes.append("the card names no licence: `--license` does")
    return notes


def _check_kept_card(path: Path, card: str, about: CardWishes):
    """What is asked for would not appear in a card that is kept, and a form with blanks is nobody's card."""
    given = [name for name in ("license", "datasets", "base_model") if getattr(about, name)]
    if given:
        raise ValueError(
            f"{', '.join(given)}: for a card that is written now, but {path} was edited by hand and is kept. Add it "
            "there, or have a new card written (`overwrite_card=True`, `--overwrite-card`)."
        )
    if CARD_BLANK in card:
        raise ValueError(
            f"{path} is a form with blanks, {CARD_BLANK!r}: fill them in, or have a card written "
            "(`overwrite_card=True`, `--overwrite-card`)."
        )


def _score_reference(folder: Path, dtype: str, token: str | None) -> dict[str, Any]:
    try:
        return reference_scores(folder, dtype, token)
    except ValueError as error:
        raise ValueError(f"{folder} does not score the reference conversations: {error}") from error


def _plot(folder: Path, reference: dict[str, Any]) -> tuple[str | None, list[str]]:
    """The name of the plot that was drawn, if it could be, and what to say where it could not."""
    if any("attribute_stds" not in row for row in reference["conversations"]):
        return None, []  # a model without sigma has no distributions to draw
    try:
        from urm_hf.hub.card.plot import plot_reference

        if (folder / PLOT).is_symlink():
            (folder / PLOT).unlink()  # to be replaced, not written through
        return plot_reference(reference["conversations"], folder / PLOT).name, []
    except ImportError:
        return None, ["no plot in the card: matplotlib is not installed"]


def _find_results(
    folder: Path, repo_id: str, about: CardWishes, model: dict[str, Any]
) -> tuple[Sequence[Result], list[str]]:
    """Those given, else of an earlier push of this model, else in the folder; and what to say of it."""
    names, given = [str(folder), repo_id], about.results
    if given is not None:
        if isinstance(given, (str, Path)) and not Path(given).exists():
            raise FileNotFoundError(f"--results {given}: there is no such file or folder of results.")
        measured = read_results(given, names) if isinstance(given, (str, Path)) else given
        if not measured:
            raise ValueError(f"{given} has no results that a card can show.")
        keep_results(folder / KEPT_RESULTS, measured, model)
        return measured, []
    kept = [] if about.overwrite else read_kept_results(folder / KEPT_RESULTS, model)
    if kept:
        return kept, ["the card shows the results of an earlier push: `--results` names others"]
    changed = ["the model is another one than at the earlier push, whose results the card no longer shows"]
    return read_results(folder, names), changed if kept is None else []
