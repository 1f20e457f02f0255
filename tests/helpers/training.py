"""Tiny datasets and trainers of both stages."""

import random
import string
from pathlib import Path

import torch
from datasets import Dataset
from transformers import TrainerCallback

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer

ATTRIBUTES = ["help", "depth"]
QUIET = {
    "use_cpu": True,
    "report_to": "none",
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "gradient_checkpointing": False,
    "save_strategy": "no",
    "logging_steps": 1,
}


def random_texts(count: int, seed: int = 0, shortest: int = 5, longest: int = 20) -> list[str]:
    """Distinct strings of random letters."""
    rng = random.Random(seed)
    return ["".join(rng.choices(string.ascii_letters, k=rng.randint(shortest, longest))) for _ in range(count)]


def rated_rows(count: int = 12, seed: int = 0, **columns) -> list[dict]:
    """Texts with ratings 0..4 of two attributes; `columns` are values for all rows, or lists of one a row."""
    rng = random.Random(seed + 1)
    rows = [
        {"text": text, "help": rng.randint(0, 4), "depth": rng.randint(0, 4)} for text in random_texts(count, seed)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values if isinstance(values, list) else [values] * count):
            row[name] = value
    return rows


def pair_rows(count: int = 12, seed: int = 0, **columns) -> list[dict]:
    """Pairs of messages with the prompt inside, as TRL's implicit prompt."""
    prompts, good, bad = (random_texts(count, seed + number) for number in (0, 1000, 2000))
    ask = [[{"role": "user", "content": prompt}] for prompt in prompts]
    rows = [
        {
            "chosen": [*ask[row], {"role": "assistant", "content": good[row]}],
            "rejected": [*ask[row], {"role": "assistant", "content": bad[row]}],
        }
        for row in range(count)
    ]
    for name, values in columns.items():
        for row, value in zip(rows, values):
            row[name] = value
    return rows


def dataset_of(rows):
    """A table of rows; a column of numbers and lists becomes one of lists, as Arrow wants it."""
    if not isinstance(rows, list):
        return rows
    mixed = {name for row in rows for name in ATTRIBUTES if isinstance(row.get(name), list)}
    wrapped = [{name: [row[name]] for name in mixed if isinstance(row[name], (int, float))} for row in rows]
    return Dataset.from_list([row | lists for row, lists in zip(rows, wrapped)])


def build_inputs(model, rows, eval_rows, tokenizer) -> dict:
    """What trainers of both stages train on, and with what."""
    return {
        "model": tiny_urm(attributes=ATTRIBUTES) if model is None else model,
        "train_dataset": dataset_of(rows),
        "eval_dataset": dataset_of(eval_rows),
        "processing_class": tokenizer or tiny_tokenizer(),
    }


def attribute_trainer(
    folder: Path, rows, eval_rows=None, model=None, *, callbacks=None, compute_metrics=None, tokenizer=None, **config
) -> URMAttributeTrainer:
    """The attribute stage on `rows`, by default for a tiny URM of two attributes; `config` goes to its config."""
    args = URMAttributeConfig(str(folder), **QUIET | {"cache_dir": str(folder / "cache")} | config)
    return URMAttributeTrainer(
        args=args,
        **build_inputs(model, rows, eval_rows, tokenizer),
        callbacks=callbacks,
        compute_metrics=compute_metrics,
    )


def gating_trainer(
    folder: Path, rows, eval_rows=None, model=None, *, callbacks=None, peft_config=None, tokenizer=None, **config
) -> URMGatingTrainer:
    """The gating stage on `rows`, by default for a tiny URM of two attributes; `config` goes to its config."""
    steps = {"max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-2}
    args = URMGatingConfig(str(folder), **QUIET | steps | {"cache_dir": str(folder / "cache")} | config)
    return URMGatingTrainer(
        args=args,
        **build_inputs(model, rows, eval_rows, tokenizer),
        callbacks=callbacks,
        peft_config=peft_config,
    )


def whole_batch(trainer) -> dict[str, torch.Tensor]:
    """All training rows in one batch, in order."""
    return trainer.data_collator(list(trainer.train_dataset))


def logged(trainer, key: str) -> list[float]:
    """The values of a key in the trainer's log, in order."""
    return [entry[key] for entry in trainer.state.log_history if key in entry]


def snapshot(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: tensor.detach().clone() for key, tensor in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], model: torch.nn.Module) -> list[str]:
    """Keys of the tensors that are not bit for bit what they were."""
    after = model.state_dict()
    assert before.keys() == after.keys()
    return sorted(key for key in before if not before[key].equal(after[key]))


class HeadsAtEvaluation(TrainerCallback):
    """Remembers the value head as it was at each evaluation."""

    def __init__(self):
        self.heads: list[torch.Tensor] = []

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.heads.append(model.score.value.weight.detach().clone())
