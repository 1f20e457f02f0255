"""POST /pooling {"data": ...} of vLLM, and its `LLM.encode` offline: conversations in, all fields by name out."""

from collections.abc import Sequence
from typing import Any

import torch
from vllm import PoolingParams
from vllm.config import VllmConfig
from vllm.inputs import TokensPrompt
from vllm.outputs import PoolingRequestOutput
from vllm.plugins.io_processors.interface import IOProcessor
from vllm.renderers import BaseRenderer

from urm_hf.data.chat_templates import load_chat_tokenizer
from urm_hf.data.encoder import Encoder, embeddings_of
from urm_hf.data.errors import RowError
from urm_hf.data.several import check_several
from urm_hf.scores import RewardScore
from urm_hf.serving.vllm.engine_scorer import DescribedModel, read_vectors
from urm_hf.serving.vllm.served import read_served_model


class NamedPooling(IOProcessor[list[Any], list[dict[str, Any]]]):
    """
    An IO processor of vLLM. `data` is a list of conversations in any form that the data layer reads, exactly as
    /v1/rewards takes them; errors are answered with 400.
    """

    def __init__(self, vllm_config: VllmConfig, renderer: BaseRenderer):
        super().__init__(vllm_config, renderer)
        model = vllm_config.model_config
        self.served = read_served_model(model.model, model.revision)
        place, access = self.served.tokenizer_place
        tokenizer = load_chat_tokenizer(place, **access.kwargs())
        self.encoder = Encoder(tokenizer, model.max_model_len, "error", embeddings_of(self.served.configs[0]))
        losses = [config.attribute_loss for config in self.served.configs]
        self.model = DescribedModel(self.served.ensemble or self.served.configs[0], losses, torch.float32)

    def parse_data(self, data: object) -> list[Any]:
        """The conversations of a request."""
        if self.served.has_adapters:
            raise ValueError("members that are LoRA adapters are asked one by one: POST /v1/rewards does that.")
        if not isinstance(data, list) or not data:
            raise ValueError(f"`data` must be a list of conversations, got {type(data).__name__}.")
        return list(check_several(data))

    def merge_pooling_params(self, params: PoolingParams | None = None) -> PoolingParams:
        """The one task of the model."""
        return PoolingParams(task="classify", use_activation=False)

    def pre_process(self, prompt: list[Any], request_id: str | None = None, **kwargs: Any) -> Sequence[TokensPrompt]:
        """The token ids of each conversation."""
        prompts = []
        for row, conversation in enumerate(prompt):
            try:
                ids = self.encoder.encode(conversation).ids or []
            except RowError as error:
                raise ValueError(str(error.at(f"row {row}", row=row))) from error
            prompts.append(TokensPrompt(prompt_token_ids=ids))
        return prompts

    def post_process(
        self, model_output: Sequence[PoolingRequestOutput], request_id: str | None = None, **kwargs: Any
    ) -> list[dict[str, Any]]:
        """The fields of each score."""
        rows: list[dict[str, Any]] = []
        for row, output in enumerate(model_output):
            result = read_vectors(self.served, self.model, [output.outputs.data], len(output.prompt_token_ids))
            if not isinstance(result, RewardScore):
                raise ValueError(f"row {row}: {result}")
            rows.append({name: value for name, value in result.items() if value is not None})
        return rows
