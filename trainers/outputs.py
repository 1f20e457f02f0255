"""A training run's folder: what an earlier run has left there is never replaced without being asked to."""

import os
import shutil
from pathlib import Path
from typing import Any

from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from urm_hf.checkpoints.files import INDEX
from urm_hf.data.outputs import check_writable
from urm_hf.modeling.members_urm import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.resuming import is_whole

CHECKPOINTS = f"{PREFIX_CHECKPOINT_DIR}-*"
WHOLE_WEIGHTS = "model*.safetensors"


def check_run_folder(data: DataArguments, args: Any, model: str | None):
    """
    Asked before anything is read.

    Args:
        data (`DataArguments`): whether what is there may be replaced (`overwrite`).
        args (`URMTrainingConfig`): `output_dir`, `resume_from_checkpoint` and `dry_run` are read.
        model (`str`, *optional*): what is trained from, which is never replaced.

    Raises:
        FileExistsError: the folder holds a model, or checkpoints to go on from, and nobody said what to do with them.
        OSError: it cannot be written to.
        ValueError: it is that of `model`.
    """
    folder = Path(args.output_dir)
    check_writable(folder)
    if args.dry_run:
        return
    if model is not None and os.path.isdir(model) and folder.is_dir() and os.path.samefile(model, folder):
        raise ValueError(f"`output_dir` {folder} is the model that is trained from: name another folder (`--out`).")
    resumes = str(args.resume_from_checkpoint or "false").lower() not in ("false", "no")
    if data.overwrite or resumes:
        return
    if is_model_folder(folder):
        raise FileExistsError(
            f"{folder} holds a finished model: name another folder (`--out`), or replace it with `--overwrite`."
        )
    if any(map(is_whole, folder.glob(CHECKPOINTS))):
        raise FileExistsError(
            f"{folder} holds checkpoints of a run that did not finish: go on from the newest with "
            "`--resume_from_checkpoint true`, or start over with `--overwrite`."
        )


def remove_checkpoints(folder: Path):
    """Those of an earlier run: of the checkpoints in a folder Trainer would keep the ones with most steps."""
    for checkpoint in folder.glob(CHECKPOINTS):
        shutil.rmtree(checkpoint)


def remove_other_kind(folder: Path, *, is_adapter: bool):
    """Weights of an earlier run that are no adapter where one was saved now, or an adapter where none was."""
    for pattern in (WHOLE_WEIGHTS, INDEX) if is_adapter else (ADAPTER_CONFIG, ADAPTER_WEIGHTS):
        for file in folder.glob(pattern):
            file.unlink()


def is_model_folder(folder: Path) -> bool:
    """Whether a model, or an adapter, was saved in it."""
    # by its weights: config.json is written before them, and a run may have been killed in between
    return (folder / ADAPTER_WEIGHTS).is_file() or any(folder.glob(WHOLE_WEIGHTS))
