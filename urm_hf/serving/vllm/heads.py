"""The members' heads on hidden states that vLLM pooled. Nothing here raises over a number: it runs in the engine."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig
from urm_hf.modeling.distributions_urm import aggregate_rewards
from urm_hf.modeling.head_urm import URMHead
from urm_hf.modeling.modeling_urm import URMOutput, read_head
from urm_hf.modeling.output_urm_ensemble import put_on_one_scale
from urm_hf.serving.vllm.served import ServedModel


class MemberHeads(nn.Module):
    """
    Args:
        served ([`ServedModel`]): whose heads these are.
    """

    def __init__(self, served: ServedModel):
        super().__init__()
        self.members = nn.ModuleList(URMHead(config) for config in served.configs)
        self.layout, self.ensemble = served.layout, served.ensemble
        self.one_each = served.has_adapters

    def forward(self, hidden: Tensor, chosen: Sequence[int]) -> Tensor:
        """
        The vectors (B, size) of hidden states (B, H).

        Args:
            hidden (`Tensor`): the last hidden states.
            chosen (`Sequence[int]`): of adapters, the member that each row is for.
        """
        if not self.one_each:
            outputs = [URMOutput(**read_head(head, hidden)) for head in self.members]
            return self.layout.pack(outputs, combine_rewards(outputs, self.ensemble))
        vectors = torch.empty(len(hidden), self.layout.size, device=hidden.device)
        for member in set(chosen):
            rows = [row for row, number in enumerate(chosen) if number == member]
            output = URMOutput(**read_head(self.members[member], hidden[rows]))
            vectors[rows] = self.layout.pack([output])
        return vectors


def combine_rewards(outputs: Sequence[URMOutput], ensemble: URMEnsembleConfig | None) -> Tensor | None:
    """The members' rewards (B,) as one, as the ensemble's config says; None of a single URM."""
    if ensemble is None:
        return None
    rewards = torch.stack([output["logits"][:, 0] for output in outputs])
    rewards, _ = put_on_one_scale(rewards, ensemble)
    return aggregate_rewards(rewards, ensemble.aggregation, ensemble.aggregation_k)
