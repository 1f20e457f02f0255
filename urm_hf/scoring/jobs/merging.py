"""The end of a job: its parts become the output, if they are still what the job asked for."""

from urm_hf.scoring.jobs.inputs import InputChanged, WatchedInput
from urm_hf.scoring.jobs.models import WatchedModels
from urm_hf.scoring.jobs.parts import PartFolder
from urm_hf.scoring.jobs.served import WatchedServer


def merge_parts(
    folder: PartFolder, watched: WatchedInput, models: WatchedModels | WatchedServer
) -> dict[str, int] | None:
    """
    Writes the output from the parts, if input and models are still what they were made from; None if another run has.

    Raises:
        InputChanged: the input is not, and parts are removed.
        ModelChanged: a model is not; parts, which were made before, stay.
        DamagedParts: parts are not what was written.
    """
    try:
        if folder.has_parts():
            models.check(folder.read_manifest()["model"])
            watched.check()
    except InputChanged:
        folder.discard()
        raise
    except (FileNotFoundError, KeyError):  # an absent manifest reads as an empty one
        if not folder.finished_by_another():
            raise
        return None  # which removed the manifest between the two looks
    return folder.merge()
