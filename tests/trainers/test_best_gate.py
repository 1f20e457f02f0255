"""The gate of the best evaluation is kept, also by a resumed run."""

import pytest
import torch
from transformers import TrainerCallback

from tests.helpers.training import changed, gating_trainer, logged, pair_rows, snapshot


class GatesAtEvaluation(TrainerCallback):
    """Remembers the gate's last layer as it was at each evaluation."""

    def __init__(self):
        self.gates: list[torch.Tensor] = []

    def on_evaluate(self, args, state, control, model=None, **kwargs):
        self.gates.append(model.score.gate[-1].weight.detach().clone())


def scripted(tmp_path, accuracies: list[float], **config):
    """A run that finds these held-out accuracies, one a step; the trainer and the gate at each evaluation."""
    gates, script = GatesAtEvaluation(), iter(accuracies)
    config = {"max_steps": len(accuracies), "eval_strategy": "steps", "eval_steps": 1} | config
    trainer = gating_trainer(tmp_path, pair_rows(), pair_rows(seed=5), callbacks=[gates], **config)
    log = trainer.log

    def scripted_log(logs, *args, **kwargs):
        log(logs, *args, **kwargs)
        if "eval_accuracy" in logs:
            logs["eval_accuracy"] = next(script)

    trainer.log = scripted_log
    trainer.train()
    return trainer, gates.gates


def test_the_gate_of_the_best_held_out_accuracy_is_kept(tmp_path):
    trainer, gates = scripted(tmp_path, [0.5, 0.9, 0.7, 0.8])
    assert not gates[1].equal(gates[3])
    assert trainer.model.score.gate[-1].weight.equal(gates[1])


def test_of_equal_accuracies_the_earlier_gate_is_kept(tmp_path):
    trainer, gates = scripted(tmp_path, [0.5, 0.9, 0.7, 0.9])
    assert trainer.model.score.gate[-1].weight.equal(gates[1])


def test_without_keep_best_the_last_gate_stays(tmp_path):
    trainer, gates = scripted(tmp_path, [0.5, 0.9, 0.7, 0.8], keep_best=False)
    assert trainer.model.score.gate[-1].weight.equal(gates[3])


def test_patience_ends_training(tmp_path):
    trainer, gates = scripted(tmp_path, [0.5, 0.9, 0.7, 0.8, 0.95], patience=2)
    assert len(gates) == 4
    assert trainer.model.score.gate[-1].weight.equal(gates[1])


def test_by_default_a_run_is_evaluated_forty_times(tmp_path):
    trainer = gating_trainer(tmp_path, pair_rows(), pair_rows(seed=5), max_steps=120, logging_steps=50)
    trainer.train()
    assert len(logged(trainer, "eval_loss")) == 40


def test_a_run_of_epochs_is_not_evaluated_at_every_step(tmp_path):
    kwargs = {"max_steps": -1, "num_train_epochs": 20, "per_device_train_batch_size": 2, "logging_steps": 50}
    trainer = gating_trainer(tmp_path, pair_rows(), pair_rows(seed=5), **kwargs)
    trainer.train()
    assert trainer.state.global_step == 120
    assert 1 <= len(logged(trainer, "eval_loss")) <= 40


def test_a_resumed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(tmp_path):
    class Interruption(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise KeyboardInterrupt

    config = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 2}

    def run(folder, *callbacks):
        return gating_trainer(tmp_path / folder, pair_rows(), pair_rows(seed=5), callbacks=list(callbacks), **config)

    whole = run("whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        run("parts", Interruption()).train()
    resumed = run("parts")
    resumed.train(resume_from_checkpoint=True)
    assert changed(snapshot(whole.model), resumed.model) == []
