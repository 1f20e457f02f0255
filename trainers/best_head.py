"""The head that did best in evaluation: remembered while training, in checkpoints too, and put back at the end."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import CallbackHandler
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from urm_hf.trainers.sharding import read_whole, write_whole

logger = logging.getLogger(__name__)


class ResumesBestHead:
    """
    For a trainer with a [`KeepBestHead`]: its checkpoints hold the best head so far, and a resumed run knows it.

    The head is written before anything else of a checkpoint: Trainer writes its state last, without which it resumes
    nothing, so that a run that was killed in between never resumes with its best head forgotten.
    """

    callback_handler: CallbackHandler  # of the trainer that it is mixed into

    def _save_checkpoint(self, model, trial):
        checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            for keeper in self.find_keepers():
                keeper.save(Path(self._get_output_dir(trial=trial)) / checkpoint)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for keeper in self.find_keepers():
            keeper.load(resume_from_checkpoint)

    def restore(self, checkpoint):
        """
        Takes what a finished run left in its last checkpoint, as if training ended now.

        Trainer cannot do that: resumed at the last step, it makes one more before it looks at the number of steps.
        """
        self._load_from_checkpoint(checkpoint)
        self.state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        for keeper in self.find_keepers():
            keeper.on_train_end(self.args, self.state, self.control)

    def find_keepers(self) -> list["KeepBestHead"]:
        """What remembers its best heads, if anything does."""
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, KeepBestHead)]


class KeepBestHead(TrainerCallback):
    """
    Remembers the head that did best in evaluation and puts it back at the end of training.

    The heads are small, so that this costs no checkpoint of the backbone. It survives a resumed run: each checkpoint
    holds the best head so far.

    Args:
        head (`nn.Module`): what is remembered.
        metric (`str`): of the evaluation, such as "eval_nll".
        greater_is_better (`bool`): the direction of the metric.
        patience (`int`, *optional*): ends the training after so many evaluations without improvement.
        burn_in_steps (`Callable[[int], int]`, *optional*): from the steps of the run to those of its burn-in, after
            which heads are candidates.
    """

    file_name = "best_head.safetensors"

    def __init__(
        self,
        head: nn.Module,
        metric: str,
        greater_is_better: bool,
        patience: int | None = None,
        burn_in_steps: Callable[[int], int] = lambda max_steps: 0,
    ):
        self.head, self.metric, self.patience = head, metric, patience
        self.sign = 1 if greater_is_better else -1
        self.burn_in_steps = burn_in_steps  # a head whose loss proper has not begun is no candidate
        self.best: float | None = None
        self.best_step: int | None = None
        self.best_epoch: float | None = None
        self.weights: dict[str, torch.Tensor] | None = None
        self.waited = 0

    def on_train_begin(self, args, state, control, **kwargs):
        if args.eval_strategy == IntervalStrategy.NO:
            raise ValueError("`keep_best` needs evaluations: set `eval_strategy` to 'epoch' or 'steps'.")

    def load(self, checkpoint: str | Path):
        """The best head so far of a checkpoint that training is resumed from."""
        path = Path(checkpoint) / self.file_name
        if path.exists():
            self.weights = load_file(path)
            with safe_open(path, framework="pt") as file:
                record = file.metadata()
            self.best, self.best_step = float(record["best"]), int(record["step"])
            self.best_epoch = float(record["epoch"]) if "epoch" in record else None  # older checkpoints have none
            self.waited = int(record["waited"])

    def save(self, checkpoint: Path):
        """Writes the best head so far, if there is one, with what `load` needs to go on."""
        if self.weights is not None:
            # as text, which is all that the header of a safetensors file holds; `repr` keeps every digit
            record = {"best": repr(self.best), "step": str(self.best_step), "waited": str(self.waited)}
            if self.best_epoch is not None:
                record["epoch"] = repr(self.best_epoch)
            checkpoint.mkdir(parents=True, exist_ok=True)
            save_file(self.weights, checkpoint / self.file_name, metadata=record)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if metrics is None or self.metric not in metrics or state.global_step <= self.burn_in_steps(state.max_steps):
            return
        # NaN compares as false with everything: it neither becomes the best nor keeps the patience from running out
        value = metrics[self.metric]
        if math.isfinite(value) and (self.best is None or self.sign * value > self.sign * self.best):
            self.best, self.best_step, self.best_epoch, self.waited = value, state.global_step, state.epoch, 0
            self.weights = read_whole(self.head)
        else:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        if self.weights is not None:
            write_whole(self.head, self.weights)
            logger.info("%s", self.describe(state))

    def describe(self, state: TrainerState) -> str:
        """Which head was kept, of how much training, and what it was chosen by."""
        if self.weights is None or self.best is None:
            told = f"no evaluation after `burn_in` gave a finite `{self.metric}` to choose by"
            return f"Kept the head of the last step, {state.global_step}: {told}."
        place = f"step {self.best_step} of {state.global_step}"
        if self.best_epoch is not None and state.epoch is not None:
            place = f"epoch {self.best_epoch:.4g} of {state.epoch:.4g} ({place})"
        kind = "highest" if self.sign > 0 else "lowest"
        return f"Kept the head of {place}: its `{self.metric}`, {self.best:.4f}, was the {kind}."


def read_keep_best(args: Any, eval_dataset: Any, heads_alone: bool) -> bool:
    """
    Whether the heads that did best on the eval set are kept.

    Args:
        args (`URMTrainingConfig`): `keep_best`; None is yes where there is one eval dataset.
        eval_dataset (`Dataset`, `dict` or `None`): what is evaluated on.
        heads_alone (`bool`): whether nothing else trains.

    Raises:
        ValueError: asked for, and there are several eval datasets.
    """
    several = isinstance(eval_dataset, dict)
    if several and args.keep_best and heads_alone:
        raise ValueError("`keep_best` needs one eval dataset to choose by, got a dict: leave it out.")
    return heads_alone and eval_dataset is not None and not several and args.keep_best is not False
