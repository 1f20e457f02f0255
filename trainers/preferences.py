"""Bradley-Terry training on pairs: TRL's loss and metrics, also of packs and of steps of unequal batches."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from urm_hf.trainers.packing import TrainsOnPacks, count_tokens
from urm_hf.trainers.row_means import LogsRowMeans


def bradley_terry_losses(
    chosen: Tensor, rejected: Tensor, margin: Tensor | None = None, center: float | None = None
) -> Tensor:
    """
    -log sigmoid(r_chosen - r_rejected - margin), Eq. 6 and Bradley & Terry (1952, doi:10.2307/2334029).

    Args:
        chosen, rejected (`Tensor`): (B,) rewards.
        margin (`Tensor`, *optional*): (B,) by how much the chosen side should be better.
        center (`float`, *optional*): weight of (r_chosen + r_rejected)^2, which keeps rewards around 0 (Eisenstein et
            al., 2023, arXiv:2312.09244).

    Returns:
        `Tensor`: (B,), one of each pair.
    """
    difference = chosen - rejected if margin is None else chosen - rejected - margin
    losses = -logsigmoid(difference)
    return losses if center is None else losses + center * (chosen + rejected) ** 2


class LearnsPreferences(LogsRowMeans, TrainsOnPacks):
    """For a subclass of TRL's `RewardTrainer`, whose own loss it takes wherever that has the same mean over rows."""

    row_means = ("accuracy", "margin", "mean_reward")
    id_columns = ("chosen_ids", "rejected_ids")

    # of the trainer that it is mixed into
    _total_train_tokens: int
    _tp_size: int

    def count_batch_rows(self, inputs: dict[str, Any]) -> int:
        return len(inputs["attention_mask"]) // 2  # (2B, T): the chosen side of B pairs, then the other

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        evaluates = not self.model.training
        if self.weighs_rows:
            result = self._compute_weighed_loss(model, inputs, return_outputs, num_items_in_batch)
        else:
            result = super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[misc]
        if evaluates:
            self.count_rows(self.count_batch_rows(inputs))
        return result

    def _compute_weighed_loss(self, model, inputs, return_outputs, rows):
        mode = "train" if self.model.training else "eval"
        outputs = self.run_model(model, {name: value for name, value in inputs.items() if name != "margin"})
        chosen, rejected = outputs.logits.squeeze(-1).chunk(2)  # (B,) each
        losses = bradley_terry_losses(chosen, rejected, inputs.get("margin"), self.args.center_rewards_coefficient)
        loss = self.mean_over_rows(losses, rows if mode == "train" else None)
        self._log_pairs(mode, outputs.logits, chosen, rejected, inputs)
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def _log_pairs(self, mode, logits, chosen, rejected, inputs):
        """What TRL logs of a batch; numbers are gathered, as processes may hold batches of different size."""
        gather, metrics = self.accelerator.gather, self._metrics[mode]
        if mode == "train":
            self._total_train_tokens += gather(count_tokens(inputs)).sum().item() // self._tp_size
        metrics["num_tokens"] = [self._total_train_tokens]
        metrics["min_reward"].append(gather(logits.min()).min().item())
        metrics["mean_reward"].append(gather(logits.mean()).mean().item())
        metrics["max_reward"].append(gather(logits.max()).max().item())
        metrics["accuracy"].append(gather((chosen > rejected).float().mean()).mean().item())
        metrics["margin"].append(gather((chosen - rejected).mean()).mean().item())
