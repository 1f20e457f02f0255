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


def is_finished(checkpoint: str | Path, max_steps: int, epochs: float) -> bool:
    """
    Whether a checkpoint is the end of the run that is asked for.

    Args:
        checkpoint (`str` or `Path`): a whole one.
        max_steps (`int`): steps of the run; 0 or less: `epochs` say how many. epochs (`float`): passes over the data.
    """
    state = read_json(Path(checkpoint) / TRAINER_STATE_NAME)
    if max_steps > 0:
        return state.get("global_step", 0) >= max_steps
    # `max_steps` of the state follows from its epochs: with more epochs asked for now, it is no end
    return state.get("global_step", 0) >= state.get("max_steps", 0) > 0 and state.get("num_train_epochs", 0) >= epochs


def _step(checkpoint: Path) -> int:
    number = checkpoint.name.rpartition("-")[2]
    # by number, not by name: checkpoint-1000 comes before checkpoint-900 in the order of names
    return int(number) if number.isdigit() else -1
