"""Where a model computes, which is not always where its weights lie, and how tensors get there."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def execution_device(model: PreTrainedModel) -> torch.device:
    """
    The device that takes a model's inputs.

    Weights that accelerate offloaded lie on "meta" between calls, and nothing can be copied from there: then it is the
    device of the first weight or buffer that is in memory.
    """
    if model.device.type != "meta":
        return model.device
    tensors = (*model.parameters(), *model.buffers())
    return next((tensor.device for tensor in tensors if tensor.device.type != "meta"), torch.device("cpu"))


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device. A copy to a GPU goes on while the CPU prepares the next batch."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
