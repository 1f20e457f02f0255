"""
Heads and backbones under FSDP and ZeRO-3: parameters alone in the state dict, whole weights where a process computes
alone, and heads that are read and written whole.
"""

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate.utils import broadcast_object_list
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from urm_hf.modeling.head_urm import URMHead

RAM_EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"  # accelerate's variable; transformers reads it when it loads


def share_statistics(model: nn.Module) -> None:
    """
    Makes parameters without gradient of the buffers of heads, under their names.

    accelerate hands the weights of the first process out to the others by the sharded state dict, all of which it
    takes for parameters. The heads' statistics are buffers, so that no optimizer, `requires_grad_` or PEFT can train
    them; from here on these have done their work.

    Args:
        model (`nn.Module`): a URM, or an adapter of one. A checkpoint of it has the same names and values as before.
    """
    for head in model.modules():
        if isinstance(head, URMHead):
            for name, buffer in list(head.named_buffers(recurse=False)):
                delattr(head, name)  # a name can be a buffer or a parameter, not both
                head.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


def load_everywhere(setting: str) -> None:
    """
    Has every process load the weights, not the first alone: where each computes hidden states before FSDP shards them.

    Args:
        setting (`str`): what asks for that, as an error shows it.

    Raises:
        ValueError: under ZeRO-3, which gives each process a part of the weights as soon as they are loaded.
    """
    if is_deepspeed_zero3_enabled():
        raise ValueError(
            "under DeepSpeed ZeRO-3 no process has the whole model, so that hidden states cannot be computed in "
            f"advance (`{setting}`). Launch this with examples/recipes/fsdp2.yaml, or on GPUs without sharding."
        )
    os.environ[RAM_EFFICIENT] = "false"


def check_same_weights(accelerator: Any, fingerprint: str) -> None:
    """
    Refuses to compute hidden states where processes hold different weights.

    Args:
        accelerator (`Accelerator`): of the trainer.
        fingerprint (`str`): of this process's weights.

    Raises:
        ValueError: this process has others than the first, which would train on noise.
    """
    if accelerator.num_processes == 1:
        return
    first = [fingerprint]
    broadcast_object_list(first)
    if first[0] != fingerprint:
        raise ValueError(
            f"process {accelerator.process_index} holds other weights than process 0, and would compute other hidden "
            "states. Under FSDP set `fsdp_cpu_ram_efficient_loading: false` before you load the model, or pass its "
            "name to the trainer, which sees to that."
        )


def read_whole(module: nn.Module) -> dict[str, Tensor]:
    """
    Copies of a module's weights on the CPU, whole also where each process holds a part of them.

    All processes must call it, since parts come from each. What comes out can be written as safetensors.
    """
    with _gather(module, writes=False):
        state = module.state_dict()
        whole = {name: _whole(tensor) for name, tensor in state.items()}
        # clones, as training goes on in the same memory; contiguous, since safetensors writes nothing else
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in whole.items()}


@torch.no_grad()
def write_whole(module: nn.Module, weights: dict[str, Tensor]) -> None:
    """Puts such weights back; each process that holds a part takes its own."""
    with _gather(module, writes=True):
        state = module.state_dict()
        for name, tensor in weights.items():
            own = state[name]
            if isinstance(own, DTensor):
                tensor = distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements)
            own.copy_(tensor)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _gather(module: nn.Module, *, writes: bool) -> AbstractContextManager:
    """What brings the parts that ZeRO-3 holds together, and hands them out again where they were written."""
    parts = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_id")]
    if not parts:
        return nullcontext()
    from deepspeed.zero import GatheredParameters  # installed, since it made these parameters

    return GatheredParameters(parts, modifier_rank=0 if writes else None)
