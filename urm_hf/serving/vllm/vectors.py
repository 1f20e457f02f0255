"""
The numbers that vLLM's engine answers with: one vector a request, the reward last, where frameworks look for it.

Shapes: B requests, n attributes, M members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from urm_hf.modeling.modeling_urm import URMOutput


@dataclass(frozen=True)
class VectorLayout:
    """
    Of each member n means, n stds, n gating weights, the std of the reward, with a posterior also n epistemic stds and
    that of the reward, if it is calibrated the ends of its intervals, and the reward; of several members then their
    rewards as one.

    Args:
        attributes (`int`): n.
        members (`int`): M.
        has_posterior (`bool`): whether there are epistemic stds.
        levels (`int`): L, how many intervals each attribute has.
    """

    attributes: int
    members: int = 1
    has_posterior: bool = False
    levels: int = 0

    @property
    def fields(self) -> dict[str, int]:
        """How many numbers of a member each field of its output has, in their order."""
        n = self.attributes
        fields = {"attribute_means": n, "attribute_stds": n, "gating_weights": n, "reward_std": 1}
        if self.has_posterior:
            fields |= {"attribute_epistemic_stds": n, "reward_epistemic_std": 1}
        if self.levels:
            fields["attribute_intervals"] = self.levels * n * 2
        return fields | {"logits": 1}

    @property
    def size(self) -> int:
        """Numbers of a vector."""
        return self.members * sum(self.fields.values()) + (self.members > 1)

    def pack(self, outputs: Sequence[URMOutput], reward: Tensor | None = None) -> Tensor:
        """
        (B, size) of the members' outputs for B requests.

        Args:
            outputs (`Sequence[URMOutput]`): one of each member.
            reward (`Tensor` of shape `(B,)`, *optional*): the members' rewards as one, where there are several.
        """
        count = len(outputs[0]["logits"])
        parts = [output[name].reshape(count, -1).float() for output in outputs for name in self.fields]
        if self.members > 1:
            assert reward is not None
            parts.append(reward.reshape(count, 1).float())
        return torch.cat(parts, dim=-1)

    def unpack(self, vectors: Tensor) -> list[URMOutput]:
        """
        The members' outputs, without hidden states, of vectors (B, size).

        Raises:
            ValueError: vectors of another size.
        """
        if vectors.shape[-1] != self.size:
            raise ValueError(f"vLLM answered with {vectors.shape[-1]} numbers instead of {self.size}.")
        outputs: list[URMOutput] = []
        place = 0
        for _ in range(self.members):
            output = URMOutput()
            for name, width in self.fields.items():
                values = vectors[:, place : place + width]
                if name.startswith("reward_"):
                    values = values[:, 0]
                elif name == "attribute_intervals":
                    values = values.reshape(len(values), self.levels, self.attributes, 2)
                output[name] = values
                place += width
            outputs.append(output)
        return outputs
