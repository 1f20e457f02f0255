"""Two processes are one process with batches of twice the size."""

import json
import os
import sys

import pytest

from tests.helpers.programs import run_command
from tests.helpers.tolerances import close
from tests.helpers.training_programs import attribute_stage, curve, gating_stage

pytestmark = pytest.mark.slow

# `accelerate launch --cpu` starts a single process where there is no MPI: this is the launcher it uses on GPUs
LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
SCRIPT = """
import json, os, sys
from pathlib import Path
from tests.helpers.training_programs import attribute_stage, gating_stage, curve

folder, results = Path(sys.argv[1]), {}
for name, stage in {"attributes": attribute_stage, "gating": gating_stage}.items():
    trainer = stage(folder / name, per_device_train_batch_size=4)
    results[name] = curve(trainer) | {"processes": trainer.accelerator.num_processes}
if trainer.is_world_process_zero():
    (folder / "results.json").write_text(json.dumps(results))
trainer.accelerator.wait_for_everyone()
os._exit(0)  # an orderly exit now and then aborts in gloo's threads, after all that is tested here is done
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("two")
    (folder / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    run_command([*LAUNCHER, str(folder / "script.py"), str(folder)], env=environment)
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name, stage", [("attributes", attribute_stage), ("gating", gating_stage)])
def test_two_processes_train_and_evaluate_like_one(tmp_path, two_processes, name, stage):
    expected = curve(stage(tmp_path, per_device_train_batch_size=8))
    assert two_processes[name].pop("processes") == 2
    assert len(expected["loss"]) == 4 and len(expected["eval_loss"]) == 1
    for metric, values in expected.items():
        assert two_processes[name][metric] == close(values), metric
