"""Which checkpoint a run goes on from."""

from pathlib import Path

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from urm_hf.checkpoints.files import read_json


def find_checkpoint(output_dir: str | Path, asked: str | bool | None) -> str | None:
    """
    The checkpoint to resume from.

    Args:
        output_dir (`str` or `Path`): the folder of the run.
        asked (`str` or `bool`, *optional*): what `resume_from_checkpoint` says: a folder; true for the newest whole
            checkpoint of the run, if there is one (a first run starts from the beginning); false or nothing for none.

    Returns:
        The folder of a checkpoint, or None to start from the beginning.

    Raises:
        FileNotFoundError: a folder was named that is no whole checkpoint.
    """
    if asked is None or str(asked).lower() in ("false", "no", ""):
        return None
    if str(asked).lower() not in ("true", "yes"):
        if not is_whole(Path(str(asked))):
            raise FileNotFoundError(
                f"`resume_from_checkpoint`: {asked} is no whole checkpoint (its {TRAINER_STATE_NAME} is "
                "missing or damaged). Say `true` for the newest whole one in the output folder."
            )
        return str(asked)
    whole = [folder for folder in Path(output_dir).glob(f"{PREFIX_CHECKPOINT_DIR}-*") if is_whole(folder)]
    return str(max(whole, key=_step)) if whole else None


def is_whole(checkpoint: Path) -> bool:
    """Whether all of it was written: Trainer writes its state last, and a full disk may have cut that short."""
    try:
        return bool(read_json(checkpoint / TRAINER_STATE_NAME))
    except ValueError:
        return False


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    # by number, not by name: checkpoint-1000 comes before checkpoint-900 in the order of names
    return int(number) if number.isdigit() else -1
