"""The model that vLLM runs: one of its own backbones, and the members' heads where its pooler reads the last token."""

from collections.abc import Iterable, Set

import torch
from torch import Tensor, nn
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from vllm.config import VllmConfig
from vllm.model_executor.layers.logits_processor import LogitsProcessor
from vllm.model_executor.layers.pooler import DispatchPooler
from vllm.model_executor.layers.pooler.seqwise import SequencePooler, SequencePoolerHead
from vllm.model_executor.layers.pooler.seqwise.methods import get_seq_pooling_method
from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
from vllm.model_executor.models.interfaces import SupportsLoRA, SupportsPP
from vllm.model_executor.models.interfaces_base import VllmModelForPooling
from vllm.model_executor.models.utils import (
    StageMissingLayer,
    WeightsMapper,
    init_vllm_registered_model,
    maybe_prefix,
    no_init_weights,
)
from vllm.tasks import PoolingTask
from vllm.v1.pool.metadata import PoolingMetadata

from urm_hf.serving.vllm.heads import MemberHeads
from urm_hf.serving.vllm.served import read_served_model
from urm_hf.serving.vllm.weights import read_backbone, read_heads

MEMBER = "member"  # the entry of `PoolingParams.extra_kwargs` that names an adapter's head


class HeadPooler(SequencePoolerHead):
    """The members' heads as vLLM calls them."""

    def __init__(self, heads: MemberHeads):
        super().__init__()
        self.heads = heads

    def get_supported_tasks(self) -> Set[PoolingTask]:
        return {"classify"}

    def forward(self, pooled_data: Tensor | list[Tensor], pooling_metadata: PoolingMetadata) -> Tensor:
        hidden = torch.stack(pooled_data) if isinstance(pooled_data, list) else pooled_data
        chosen = [int((params.extra_kwargs or {}).get(MEMBER, 0)) for params in pooling_metadata.pooling_params]
        return self.heads(hidden, chosen)


class URMForVllm(nn.Module, VllmModelForPooling, SupportsPP, SupportsLoRA):
    """A URM, heads on one backbone, or LoRA adapters of one base with their heads."""

    hf_to_vllm_mapper = WeightsMapper(orig_to_new_prefix={"model.": "lm.model."})
    allow_patterns_overrides = ["model*.safetensors"]  # a pickle is code
    lora_skip_prefixes = ["score."]  # heads are read here

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = ""):
        super().__init__()
        model = vllm_config.model_config
        self.served = read_served_model(model.model, model.revision)
        # of the checkpoint's own type, which in the published layout is the model's; LoRA reads it, too
        self.config = backbone = model.hf_config.get_text_config()
        architecture = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES[backbone.model_type]
        with no_init_weights(
            self,
            lambda module: StageMissingLayer("output", module),
            targets=(LogitsProcessor, ParallelLMHead),
        ):
            self.lm = init_vllm_registered_model(
                vllm_config,
                prefix=maybe_prefix(prefix, "lm"),
                hf_config=backbone,
                architectures=[architecture],
            )
        for name in ("packed_modules_mapping", "embedding_modules"):
            setattr(self, name, getattr(self.lm, name, {}))
        self.make_empty_intermediate_tensors = self.lm.make_empty_intermediate_tensors
        pooling = get_seq_pooling_method("LAST")
        heads = MemberHeads(self.served)
        self.pooler = DispatchPooler({"classify": SequencePooler(pooling, HeadPooler(heads))})
        self.heads = heads

    def embed_input_ids(self, input_ids: Tensor) -> Tensor:
        return self.lm.embed_input_ids(input_ids)

    def forward(
        self,
        input_ids: Tensor,
        positions: Tensor,
        intermediate_tensors=None,
        inputs_embeds: Tensor | None = None,
    ):
        return self.lm(input_ids, positions, intermediate_tensors, inputs_embeds)

    def load_weights(self, weights: Iterable[tuple[str, Tensor]]) -> set[str]:
        """
        Loads backbone and heads. What vLLM found is not looked at: an ensemble's folder has no weights, and of those
        of a model vLLM would go on without some.
        """
        states = read_heads(self.served)
        for head, state in zip(self.heads.members, states, strict=True):
            head.load_state_dict(state)
        loaded = {f"lm.{name}" for name in self.lm.load_weights(read_backbone(self.served))}
        return loaded | {name for name, _ in self.named_parameters() if not name.startswith("lm.")}
