"""Checkpoints of a run are whole or are not there, also where the disk is full."""

import shutil
from pathlib import Path
from typing import Any

from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from urm_hf.checkpoints.files import explain_full_disk
from urm_hf.modeling.base_urm import BACKBONE
from urm_hf.modeling.checks_urm import explain_damage


class SavesWholeCheckpoints:
    """
    For a trainer: a checkpoint that cannot be written is an error that names its folder, and leaves nothing of it.

    Trainer writes its state last, by which a whole checkpoint is told from a part of one. So a state that a former run
    left in the folder goes first: with new weights beside it, cut short perhaps, it would vouch for them.
    """

    # of the trainer that it is mixed into
    args: Any
    model: Any
    state: Any
    _get_output_dir: Any

    def _save_checkpoint(self, model, trial):
        folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            (folder / TRAINER_STATE_NAME).unlink(missing_ok=True)
        try:
            with explain_full_disk(folder):
                super()._save_checkpoint(model, trial)  # type: ignore[misc]
        except Exception:
            if self.args.should_save:  # other tools take any folder of that name for a checkpoint
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        with explain_full_disk(output_dir or self.args.output_dir):
            super().save_model(output_dir, _internal_call)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: Any = None):
        # under FSDP transformers calls it in every process, which would write the same files at once
        if self.args.should_save:
            super()._save(output_dir, state_dict)  # type: ignore[misc]

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        with explain_damage(f"The checkpoint {resume_from_checkpoint}"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]

    def _issue_warnings_after_load(self, load_result):
        if getattr(self.model.config, "base_weights", None) is not None:  # heads alone: the backbone is there already
            missing = load_result.missing_keys
            missing[:] = [key for key in missing if not key.startswith(BACKBONE)]
        super()._issue_warnings_after_load(load_result)  # type: ignore[misc]

    def _load_optimizer_and_scheduler(self, checkpoint):
        with explain_damage(f"The optimizer of the checkpoint {checkpoint}"):
            super()._load_optimizer_and_scheduler(checkpoint)  # type: ignore[misc]
