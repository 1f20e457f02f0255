"""Scalar reward models, pairs of prompts with several answers, and what one step of training makes of them."""

import copy
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, PreTrainedModel, TrainerCallback
from trl import RewardConfig, RewardTrainer

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf.trainers import URMRewardConfig, URMRewardTrainer

QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "bf16": False}
STEP = {"max_steps": 1, "logging_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3}


def tiny_reward_model(family: str = "llama", seed: int = 0, **config: Any) -> PreTrainedModel:
    """Two layers and a scalar head with random weights."""
    torch.manual_seed(seed)
    shape = tiny_backbone_config(family, num_labels=1, **({"sliding_window": None} if family == "mistral" else {}))
    for name, value in config.items():
        setattr(shape, name, value)
    return AutoModelForSequenceClassification.from_config(shape).eval()


def answered_prompts(prompts: int = 6, answers: int = 3) -> Dataset:
    """Pairs of token ids: each prompt with several pairs of answers, of unequal length."""
    generator = torch.Generator().manual_seed(0)

    def draw(least: int, most: int) -> list[int]:
        length = int(torch.randint(least, most, (1,), generator=generator))
        return torch.randint(0, 256, (length,), generator=generator).tolist()

    rows: dict[str, list[list[int]]] = {"chosen_ids": [], "rejected_ids": []}
    for _ in range(prompts):
        prompt = draw(20, 60)
        for _ in range(answers):
            for side in rows.values():
                side.append(prompt + draw(3, 40))
    return Dataset.from_dict(rows)


def train_reward(trainer: type, model: Any, rows: Dataset, folder: Any, **settings: Any) -> tuple[Any, Any]:
    """The trainer and its trained model; a copy trains, so that runs can be compared."""
    config = RewardConfig if trainer is RewardTrainer else URMRewardConfig
    peft_config = settings.pop("peft_config", None)
    args = config(str(folder), **(QUIET | STEP | settings))
    made = trainer(
        copy.deepcopy(model), args, train_dataset=rows, processing_class=tiny_tokenizer(), peft_config=peft_config
    )
    made.train()
    return made, made.model


def gradients(trainer: type, model: Any, rows: Dataset, folder: Any, **settings: Any) -> dict[str, torch.Tensor]:
    """The gradient that a step of plain gradient descent with rate 1 took, by parameter."""
    plain = {"optim": "sgd", "learning_rate": 1.0, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    made, after = train_reward(trainer, model, rows, folder, **(plain | settings))
    return {name: before[name] - weight.detach() for name, weight in after.named_parameters()}


def losses(trainer: Any) -> list[float]:
    """The logged losses."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


class Stop(TrainerCallback):
    """Ends the process, as it were, at the end of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def resumable_run(folder: Any, step: int | None = None, **settings: Any) -> Any:
    """A run of three epochs in batches by tokens, with checkpoints; it ends after `step`, if that is given."""
    config = {"max_tokens_per_step": 600, "save_strategy": "steps", "save_steps": 2, "num_train_epochs": 3}
    args = URMRewardConfig(str(folder), **(QUIET | config | settings), logging_steps=1, learning_rate=1e-3)
    callbacks = [] if step is None else [Stop(step)]
    model = tiny_reward_model()
    rows, tokenizer = answered_prompts(), tiny_tokenizer()
    return URMRewardTrainer(model, args, train_dataset=rows, processing_class=tokenizer, callbacks=callbacks)
