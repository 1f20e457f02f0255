"""
accelerate shards on accelerators only. Put on PYTHONPATH, this folder has it take each CPU process for one that has a
GPU: the sharding, the communication and the saving are then those of FSDP and DeepSpeed.
"""

import os

SHARDED = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")

if "LOCAL_RANK" in os.environ and any(os.environ.get(name) == "true" for name in SHARDED):
    import torch
    from accelerate import state

    def _use_gloo(self, cpu=False, sagemaker_dp=False, backend=None):
        return "gloo", state.DistributedType.MULTI_GPU

    def _stay_on_cpu(self):
        self.device = torch.device("cpu")

    state.PartialState._prepare_backend = _use_gloo
    state.PartialState.set_device = _stay_on_cpu
