"""Training of heads on a frozen backbone: what stays fixed, and which heads are kept."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from datasets import Dataset
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import TrainerCallback
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

from urm_hf.scoring.features import Features, deduplicate, pooled_features, weights_fingerprint

logger = logging.getLogger(__name__)


def train_only(model: nn.Module, trained: nn.Module):
    """Gradients for `trained`, none for the rest of `model`."""
    model.requires_grad_(False)
    trained.requires_grad_(True)


def record_stage(config, stage: str, args, dataset):
    """Writes into the model's config how a stage was trained: what tells the members of an ensemble apart."""
    record = {"seed": args.seed, "data_seed": args.data_seed, "learning_rate": args.learning_rate}
    record["weight_decay"] = args.weight_decay
    record["batch_size"] = args.per_device_train_batch_size * args.gradient_accumulation_steps
    record["steps" if args.max_steps > 0 else "epochs"] = (
        args.max_steps if args.max_steps > 0 else args.num_train_epochs
    )
    for name in ("loss_type", "freeze_backbone", "max_length"):
        if hasattr(args, name):
            record[name] = getattr(args, name)
    if dataset is not None and hasattr(dataset, "__len__"):
        record["rows"] = len(dataset)
    config.training = {**(config.training or {}), stage: record}


def frozen_fingerprint(model: nn.Module, trained: nn.Module) -> str:
    """A hash of all weights of `model` but those of `trained`."""
    ours = {id(parameter) for parameter in trained.parameters()}
    frozen = {
        name.replace(".", "_"): parameter for name, parameter in model.named_parameters() if id(parameter) not in ours
    }
    return weights_fingerprint(nn.ParameterDict(frozen))


class FeatureStore(Mapping):
    """The hidden states of a trainer's datasets, by the dataset's name, on a backbone that stays as it is."""

    def __init__(self, trainer):
        self._trainer, self._maps = trainer, {}
        self._fingerprint = weights_fingerprint(trainer.model.model)

    def __getitem__(self, name: str) -> Features:
        return self._maps[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)

    def index(self, dataset: Dataset, id_columns: dict[str, str], name: str) -> Dataset:
        """
        `dataset` with each column of token ids replaced by a column of indices into the hidden states of `name`.

        Args:
            id_columns: {column of token ids: column of indices}. A conversation that occurs twice is computed once.
        """
        trainer, rows = self._trainer, len(dataset)
        sequences, indices = deduplicate([ids for column in id_columns for ids in dataset[column]])
        while name in self._maps:  # another dataset passed to `evaluate`
            name += "'"
        with trainer.accelerator.main_process_first(), trainer.accelerator.autocast():
            self._maps[name] = pooled_features(
                trainer.model,
                sequences,
                trainer.processing_class.pad_token_id,
                trainer.args.cache_dir,
                trainer.args.max_tokens_per_batch,
                f"Hidden states ({name})",
                self._fingerprint,
            )
        columns = {column: dataset[column] for column in dataset.column_names if column not in id_columns}
        for number, column in enumerate(id_columns.values()):
            columns[column] = indices[number * rows : (number + 1) * rows]
        return Dataset.from_dict({**columns, "feature_file": [name] * rows})


def index_datasets(trainer, store: FeatureStore, id_columns: dict[str, str]):
    """Replaces the tokens of a trainer's datasets by indices into hidden states, which are computed where needed."""
    trainer.train_dataset = store.index(trainer.train_dataset, id_columns, "train")
    if isinstance(trainer.eval_dataset, dict):
        named = trainer.eval_dataset.items()
        trainer.eval_dataset = {name: store.index(dataset, id_columns, name) for name, dataset in named}
    elif trainer.eval_dataset is not None:
        trainer.eval_dataset = store.index(trainer.eval_dataset, id_columns, "eval")


class ResumesBestHead:
    """
    For a trainer with a [`KeepBestHead`]: its checkpoints hold the best head so far, and a resumed run knows it.

    The head is written before anything else of a checkpoint: Trainer writes its state last, without which it resumes
    nothing, so that a run that was killed in between never resumes with its best head forgotten.
    """

    def _save_checkpoint(self, model, trial):
        checkpoint = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            for keeper in self._keepers():
                keeper.save(Path(self._get_output_dir(trial=trial)) / checkpoint)
        super()._save_checkpoint(model, trial)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        for keeper in self._keepers():
            keeper.load(resume_from_checkpoint)

    def _keepers(self):
        return [callback for callback in self.callback_handler.callbacks if isinstance(callback, KeepBestHead)]


class KeepBestHead(TrainerCallback):
    """
    Remembers the head that did best in evaluation and puts it back at the end of training.

    The heads are small, so that this costs no checkpoint of the backbone. It survives a resumed run: each checkpoint
    holds the best head so far.
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
        self.head, self.metric, self.sign, self.patience = head, metric, 1 if greater_is_better else -1, patience
        self.burn_in_steps = burn_in_steps  # a head whose loss proper has not begun is no candidate
        self.best: float | None = None
        self.best_step: int | None = None
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
            self.waited = int(record["waited"])

    def save(self, checkpoint: Path):
        if self.weights is not None:
            record = {"best": repr(self.best), "step": str(self.best_step), "waited": str(self.waited)}
            checkpoint.mkdir(parents=True, exist_ok=True)
            save_file(self.weights, checkpoint / self.file_name, metadata=record)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if metrics is None or self.metric not in metrics or state.global_step <= self.burn_in_steps(state.max_steps):
            return
        value = metrics[self.metric]
        if math.isfinite(value) and (self.best is None or self.sign * value > self.sign * self.best):
            self.best, self.best_step, self.waited = value, state.global_step, 0
            self.weights = {k: v.detach().cpu().clone().contiguous() for k, v in self.head.state_dict().items()}
        else:
            self.waited += 1
            if self.patience is not None and self.waited >= self.patience:
                control.should_training_stop = True

    def on_train_end(self, args, state, control, **kwargs):
        if self.weights is not None:
            self.head.load_state_dict(self.weights)
            logger.info("Kept the head of step %s: %s = %.4f.", self.best_step, self.metric, self.best)
