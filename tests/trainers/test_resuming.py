"""Runs that were interrupted, between steps or by a kill, end where the uninterrupted ones do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback

from tests.helpers.programs import wait_until
from tests.helpers.tiny import tiny_urm
from tests.helpers.training import (
    ATTRIBUTES,
    HeadsAtEvaluation,
    attribute_trainer,
    changed,
    gating_trainer,
    logged,
    pair_rows,
    rated_rows,
    snapshot,
)
from tests.helpers.training_programs import killable


class Interruption(TrainerCallback):
    """Ends the process, as it were, at the end of a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def script_of_steps(trainer_box: list):
    """NLL by step: step 2 is the best, whichever process evaluates."""
    script = {2: 1.0, 4: 2.0, 6: 3.0, 8: 1.5}
    return lambda prediction: {"nll": script[trainer_box[-1].state.global_step]}


RESUMED = {"max_steps": 8, "per_device_train_batch_size": 4, "save_strategy": "steps"}
RESUMED_FULL = RESUMED | {"save_steps": 3, "learning_rate": 1e-3}
RESUMED_FROZEN = RESUMED | {"save_steps": 4, "freeze_backbone": True, "eval_strategy": "steps", "eval_steps": 2}


def scripted_runs(config: dict = RESUMED_FROZEN):
    """Makes trainers of one run, the last of which evaluates by the script."""
    frozen, box = "freeze_backbone" in config, []

    def run(folder: Path, *callbacks):
        box.append(
            attribute_trainer(
                folder,
                rated_rows(14),
                rated_rows(6, seed=5) if frozen else None,
                callbacks=list(callbacks),
                compute_metrics=script_of_steps(box) if frozen else None,
                **config,
            )
        )
        return box[-1]

    return run


@pytest.mark.parametrize("config", [RESUMED_FULL, RESUMED_FROZEN], ids=["full", "frozen with the best head kept"])
def test_a_resumed_run_ends_bit_for_bit_where_the_uninterrupted_one_does(tmp_path, config):
    run = scripted_runs(config)
    whole = run(tmp_path / "whole")
    whole.train()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", Interruption(5)).train()
    resumed = run(tmp_path / "parts")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 8
    assert changed(snapshot(whole.model), resumed.model) == []
    assert not whole.model.score.value.weight.equal(tiny_urm(attributes=ATTRIBUTES).score.value.weight)


def test_the_best_head_of_before_the_interruption_survives_it(tmp_path):
    heads, run = HeadsAtEvaluation(), scripted_runs()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, heads, Interruption(5)).train()
    resumed = run(tmp_path)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.model.score.value.weight.equal(heads.heads[0])


def test_a_run_resumed_from_a_folder_elsewhere_keeps_its_best_head(tmp_path):
    """The checkpoint was copied: it is not in the new run's `output_dir`."""
    heads, run = HeadsAtEvaluation(), scripted_runs()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "old", heads, Interruption(5)).train()
    resumed = run(tmp_path / "new")
    resumed.train(resume_from_checkpoint=str(tmp_path / "old" / "checkpoint-4"))
    assert resumed.model.score.value.weight.equal(heads.heads[0])


class BestAtStep2(TrainerCallback):
    """Evaluations that get worse from the first, at step 2, on; remembers the head of each."""

    def __init__(self):
        self.heads: dict[int, dict[str, torch.Tensor]] = {}

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs):
        self.heads[state.global_step] = snapshot(model.score)
        metrics |= {"eval_nll": state.global_step, "eval_accuracy": 1 / state.global_step}


class KilledWhenSaved(TrainerCallback):
    """Ends the process, as it were, as soon as Trainer has written a checkpoint."""

    def on_save(self, args, state, control, **kwargs):
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [attribute_trainer, gating_trainer])
def test_a_checkpoint_is_never_without_its_best_head(tmp_path, make):
    config = {"max_steps": 6, "save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    config |= {"per_device_train_batch_size": 4, "learning_rate": 1e-2}
    rows = rated_rows if make is attribute_trainer else pair_rows
    config |= {"freeze_backbone": True} if make is attribute_trainer else {}
    before = BestAtStep2()
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, rows(14), rows(6, seed=5), callbacks=[before, KilledWhenSaved()], **config).train()
    resumed = make(tmp_path, rows(14), rows(6, seed=5), callbacks=[BestAtStep2()], **config)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.global_step == 6
    # but for the posterior, which is fitted anew when the head is trained
    assert [name for name in changed(before.heads[2], resumed.model.score) if "posterior" not in name] == []
    assert changed(before.heads[4], resumed.model.score) != []


KILLED = """
import sys
from pathlib import Path
from transformers import TrainerCallback
from tests.helpers.training_programs import killable

class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == int(sys.argv[2]):
            Path(sys.argv[3]).touch()
            sys.stdin.read()  # until the kill

killable(Path(sys.argv[1]), [Slow()]).train()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("killed_in_step", "checkpoint"), [(4, 3), (5, 3), (7, 6)])
def test_a_run_that_was_killed_resumes_bit_for_bit(tmp_path, killed_in_step, checkpoint):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    arrived = tmp_path / "arrived"
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(killed_in_step), str(arrived)]
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        wait_until(arrived.exists, lambda: process.poll() is None)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    last = tmp_path / "killed" / f"checkpoint-{checkpoint}"
    assert (last / "trainer_state.json").exists()  # the last file to be written

    resumed, whole = killable(tmp_path / "killed"), killable(tmp_path / "whole")
    resumed.train(resume_from_checkpoint=True)
    whole.train()
    assert logged(resumed, "loss") == logged(whole, "loss")
    assert changed(snapshot(whole.model), resumed.model) == []
