"""Training runs that tests start in processes of their own."""

from pathlib import Path

from tests.helpers.training import attribute_trainer, gating_trainer, logged, pair_rows, rated_rows

STEPS = {"max_steps": 4, "learning_rate": 1e-3, "per_device_eval_batch_size": 4}


def attribute_stage(folder, **config):
    """The full tiny model, with gradient checkpointing as it is by default."""
    rows, held_out = rated_rows(32, depth=[None, 1, 2, [0, 3]] * 8), rated_rows(16, seed=5)
    return attribute_trainer(folder, rows, held_out, **STEPS | {"gradient_checkpointing": True} | config)


def gating_stage(folder, **config):
    return gating_trainer(folder, pair_rows(32), pair_rows(16, seed=5), keep_best=False, **STEPS | config)


def curve(trainer) -> dict[str, list[float]]:
    """Loss of each step, and the evaluation after them."""
    trainer.train()
    trainer.evaluate()
    names = ["loss", "eval_loss", "eval_nll", "eval_accuracy"]
    return {name: logged(trainer, name) for name in names}


def killable(folder: Path, callbacks=None):
    config = {"max_steps": 8, "save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-3}
    return attribute_trainer(folder, rated_rows(14), callbacks=callbacks, per_device_train_batch_size=4, **config)
