"""
The model card of a URM or an ensemble: what it predicts and on which scale, how to load it, what was measured, how it
was trained, and what it must not be taken for. It says what is known; what is not known is absent.
"""

from collections.abc import Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from urm_hf import __version__
from urm_hf.hub.card.loading import loading_section
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.hub.card.sections import (
    examples_section,
    limits_section,
    prediction_section,
    results_section,
    training_section,
)
from urm_hf.hub.folder import HUB_ID, without_local_paths
from urm_hf.modeling.card_urm import CARD_MARKER
from urm_hf.modeling.configuration_urm_ensemble import URMEnsembleConfig

TAGS = ["urm", "reward-model", "uncertainty", "trl"]
CITATION = """## Citation

The method is that of [Lou et al. (2024)](https://arxiv.org/abs/2410.00847):

```bibtex
@misc{lou2024uncertainty,
  title = {Uncertainty-aware Reward Model: Teaching Reward Models to Know What is Unknown},
  author = {Xingzhou Lou and Dong Yan and Wei Shen and Yuzi Yan and Jian Xie and Junge Zhang},
  year = {2024},
  eprint = {2410.00847},
  archivePrefix = {arXiv},
  url = {https://arxiv.org/abs/2410.00847},
}
```"""


def model_card(
    config: dict[str, Any],
    repo_id: str,
    *,
    adapter: dict[str, Any] | None = None,
    reference: dict[str, Any] | None = None,
    results: Sequence[Result] = (),
    license: str | None = None,
    datasets: Sequence[str] | None = None,
    base_model: str | None = None,
    tag: str | None = None,
    plot: str | None = None,
    tags: Sequence[str] = (),
) -> ModelCard:
    """
    Args:
        config: what `config.json` holds.
        repo_id: where the card will be read.
        adapter: what `adapter_config.json` holds, of a LoRA adapter.
        reference: see `urm_hf.hub.reference.reference_scores`. results: see `urm_hf.hub.card.results`.
        license, datasets, base_model: for the metadata; never guessed, but for a base that the config names.
        tag: a tag that the pushed commit will have. plot: file name of a plot of the reference scores.
        tags: more tags for the metadata.
    """
    config = without_local_paths(config)
    is_ensemble = config["model_type"] == URMEnsembleConfig.model_type
    if base_model is None:
        base_model = _list_members(config) if is_ensemble else _find_base(config, adapter)
    kind = ["ensemble"] if is_ensemble else ["lora"] if adapter is not None else []
    data = ModelCardData(
        library_name="transformers" if adapter is None else "peft",
        pipeline_tag="text-classification",
        tags=list(dict.fromkeys([*TAGS, *kind, *tags])),
        base_model=base_model,
        datasets=list(datasets) if datasets else None,
        license=license,
        model_name=repo_id.split("/")[-1],
        eval_results=_model_index(results) or None,
    )
    sections = [
        CARD_MARKER,
        f"# {repo_id.split('/')[-1]}",
        prediction_section(config, base_model, adapter),
        loading_section(config, repo_id, tag, adapter),
        results_section(results, config),
        examples_section(reference, plot) if reference else "",
        training_section(config),
        limits_section(config, results),
        CITATION,
        f"Written by urm-hf {__version__}.",
    ]
    text = "\n\n".join(section for section in sections if section)
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n{text}\n", ignore_metadata_errors=False)


def is_generated(card: str) -> bool:
    """Whether a card was written by this package and not edited by hand since."""
    return CARD_MARKER in card


def _list_members(config: dict[str, Any]) -> Any:
    """The repositories of an ensemble's members; None of heads that lie in its own."""
    return [name for name in config["members"] if HUB_ID.fullmatch(name) and not name.startswith(".")] or None


def _find_base(config: dict[str, Any], adapter: dict[str, Any] | None) -> str | None:
    """The Hub repository of the backbone, or of what an adapter is of, if the config names one."""
    name = adapter["base_model_name_or_path"] if adapter else config["backbone_config"].get("_name_or_path") or ""
    return name if HUB_ID.fullmatch(name) else None


def _model_index(results: Sequence[Result]) -> list[EvalResult]:
    """
    Results in the form that the Hub reads; those of attributes, parts and baselines are left to the text.

    What they were measured on is said where the results say it: a dataset that was trained on is not a guess at it.
    """
    found = []
    for result in results:
        if any(where is not None for where in (result.of, result.attribute, result.group, result.variant)):
            continue
        dataset = result.dataset or result.data
        rows = "preference pairs" if result.kind == "pairs" else "rated conversations"
        name = f"{dataset} ({rows})" if dataset else f"held-out {rows}"
        # results of one type are read as of one dataset, with the name of the first
        unnamed = "held-out-pairs" if result.kind == "pairs" else "held-out-ratings"
        known = {"n": result.n, "interval_95": [round(bound, 4) for bound in result.interval or ()] or None}
        arguments = {key: value for key, value in known.items() if value is not None}
        found.append(
            EvalResult(
                task_type="text-classification",
                task_name="reward modelling",
                dataset_type=dataset or unnamed,
                dataset_name=name,
                dataset_split=result.split or None,
                metric_type=result.metric,
                metric_name=METRICS[result.metric][1],
                metric_value=round(result.value, 4),
                metric_args=arguments or None,
            )
        )
    return found
