"""FSDP2 shards a URM: two gloo processes, `fully_shard` on each layer and on the whole, as accelerate does on GPUs."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers.programs import run_command
from tests.helpers.tiny import tiny_urm
from tests.helpers.tolerances import close

SCRIPT = """
import json, os, sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from urm_hf import URMForRewardModeling

dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (2,))
model = URMForRewardModeling.from_pretrained(sys.argv[1])
for layer in model.model.layers:
    fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
ids = torch.arange(3, 23).reshape(2, 10)[dist.get_rank() :][:1]
output = model(ids, torch.ones_like(ids))
(output.logits.mean() + output.attribute_stds.log().mean()).backward()
norm = torch.stack([p.grad.full_tensor().square().sum() for p in model.parameters() if p.grad is not None]).sum()
rewards = [torch.empty(1, 1) for _ in range(2)]
dist.all_gather(rewards, output.logits.detach())
if dist.get_rank() == 0:
    print("RESULT", json.dumps({"rewards": torch.cat(rewards).flatten().tolist(), "norm": norm.item()}), flush=True)
dist.barrier()
os._exit(0)  # an orderly exit now and then aborts in gloo's threads, after all that is tested here is done
"""


@pytest.mark.slow
def test_a_sharded_urm_gives_the_rewards_and_gradients_of_the_whole_one(tmp_path):
    model = tiny_urm()
    model.save_pretrained(tmp_path / "urm")
    (tmp_path / "run.py").write_text(SCRIPT)
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "run.py"), str(tmp_path / "urm")]
    printed = run_command(command, env=environment)
    line = next(line for line in printed.splitlines() if line.startswith("RESULT"))
    found = json.loads(line.removeprefix("RESULT"))

    ids = torch.arange(3, 23).reshape(2, 10)
    output = model(ids, torch.ones_like(ids))
    (output.logits.mean() + output.attribute_stds.log().mean()).backward()
    norm = sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)
    assert found["rewards"] == close(output.logits.flatten().tolist())
    assert found["norm"] == pytest.approx(norm, rel=1e-3)
