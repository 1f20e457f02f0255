"""
What vLLM finds by its entry points, all of them named `urm`. Nothing of vLLM is imported before one of them is called,
and nothing here is called like a submodule, which would take its place.
"""

from typing import Any

ARCHITECTURES = ("URMForRewardModeling", "URMEnsemble", "LlamaForSequenceClassificationWithNormal_Weights")


def register_models():
    """`vllm.general_plugins`: configs and the class, by name, in every process; called again it changes nothing."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING, AutoConfig
    from vllm import ModelRegistry

    from urm_hf.modeling import URMEnsemble, URMForRewardModeling
    from urm_hf.serving.vllm.configs import ServedEnsembleConfig, ServedURMConfig

    for config, model in ((ServedURMConfig, URMForRewardModeling), (ServedEnsembleConfig, URMEnsemble)):
        AutoConfig.register(config.model_type, config, exist_ok=True)
        # trainers that hold vLLM in their own process go on to load reward models by name
        for mapping in (MODEL_MAPPING, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING):
            mapping.register(config, model, exist_ok=True)
    for architecture in ARCHITECTURES:
        ModelRegistry.register_model(architecture, "urm_hf.serving.vllm.model:URMForVllm")


def name_io_processor() -> str:
    """`vllm.io_processor_plugins`: the class behind POST /pooling with `data`."""
    return "urm_hf.serving.vllm.named_pooling.NamedPooling"


def build_routes() -> Any:
    """`vllm.endpoint_plugins`: the routes of `urm serve` on vLLM's server."""
    from urm_hf.serving.vllm.routes import RewardRoutes

    return RewardRoutes()
