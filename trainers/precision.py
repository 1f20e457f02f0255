"""Whether small updates survive the precision of the weights that they are added to."""

import torch
from torch import nn

LOW = (torch.bfloat16, torch.float16)


def check_master_weights(model: nn.Module, sharded: bool):
    """
    Refuses to train weights that are stored in 16 bits.

    A bfloat16 has 8 significant bits: an update smaller than 1/512 of a weight is rounded away, and at a learning rate
    of 2e-6 nearly all are. Autocast (`bf16=True`) computes as fast from float32 weights. FSDP with mixed precision and
    DeepSpeed keep float32 copies of their own.

    Args:
        model (`nn.Module`): with `requires_grad` as it will train.
        sharded (`bool`): whether FSDP or DeepSpeed holds the weights.

    Raises:
        ValueError: a trained weight is bfloat16 or float16, and nothing keeps a float32 copy of it.
    """
    if sharded:
        return
    low = [name for name, parameter in model.named_parameters() if parameter.requires_grad and parameter.dtype in LOW]
    if low:
        dtype = str(model.get_parameter(low[0]).dtype).removeprefix("torch.")
        raise ValueError(
            f"{len(low)} tensors that train are {dtype} ({low[0]}, ...): updates as small as a learning rate of 2e-6 "
            'gives would be rounded away. Load the model in float32 (`dtype="float32"`) and set `bf16=True`, which '
            "computes in bfloat16 all the same; or train an adapter (`use_peft`), or heads alone (`freeze_backbone`)."
        )
