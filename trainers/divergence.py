"""A run that diverged ends at once, with the step, and never overwrites a good checkpoint with NaN."""

import math
from typing import Any

import torch
from torch import nn


class Diverged(ValueError):
    """Training left the finite numbers. Nothing was saved since."""


class StopsWhenDiverged:
    """For a trainer: a loss or a trained weight that is not finite is an error that names the step."""

    def training_step(self, *args, **kwargs):
        # transformers filters NaN out of the *logged* loss, so that a run can end with exit code 0 and a dead model
        loss = super().training_step(*args, **kwargs)
        if not math.isfinite(loss.item()):
            raise Diverged(self._explain(f"the loss is {loss.item()}"))
        return loss

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        self._check_trained_weights()
        super().save_model(*args, **kwargs)  # type: ignore[misc]  # of the trainer

    def _check_trained_weights(self):
        """The last update of all is followed by no loss that would show it."""
        wrong = find_nonfinite(self.model)
        if wrong is not None:
            raise Diverged(self._explain(f"weights of {wrong} are not finite"))

    def _explain(self, what):
        return (
            f"training diverged: in step {self.state.global_step + 1} of {self.state.max_steps} {what}. Nothing was "
            f"saved over the last checkpoint. Lower `learning_rate` ({self.args.learning_rate:g}), or set "
            "`max_grad_norm` or warm-up; if it happens in step 1, look at the data and at the model you start from."
        )


def find_nonfinite(model: nn.Module) -> str | None:
    """The name of the first trained parameter that holds NaN or infinity; of shards, those of this process."""
    for name, parameter in model.named_parameters():
        # of an FSDP shard, which is a DTensor; to gather it whole would take the memory that sharding saves
        local = parameter.to_local() if hasattr(parameter, "to_local") else parameter
        if parameter.requires_grad and not torch.isfinite(local.detach()).all():
            return name
    return None
