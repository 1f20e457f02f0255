"""What a model card shows of `urm evaluate`: one model's numbers, beside those of the baselines."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import ResultsView
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.hub.folder import DATA_SUFFIXES, HUB_ID

CARD_NAMES = {"nll": "pair_nll"}  # of pairs; a card has the NLL of ratings as well
KEPT = ("kept", "0.8")
PARTS = ("section", "domain")


def results_of(content: dict[str, Any], names: Sequence[str], path: Path) -> list[Result]:
    """
    Args:
        content: of results.json. names: of the model, folder or repository. path: of the file, for errors.

    Raises:
        ValueError: which of its models is meant is not clear.
    """
    view = ResultsView(content)
    model = chosen_model(content["models"], names, path)
    results: list[Result] = []
    for data in view.preferences:
        results += _preferences(view, data, model)
    for data in view.ratings:
        results += _ratings(view, data, model)
    return results


def chosen_model(models: Sequence[dict[str, Any]], names: Sequence[str], path: Path) -> str:
    """The model whose source or name is one of `names`, else the only one that is no baseline."""
    candidates = [model for model in models if model["kind"] != "baseline"]
    ends = {Path(name).name for name in names}
    by_source = [model for model in candidates if _is_one_of(model.get("source"), names)]
    by_name = [model for model in candidates if model["name"] in {*names, *ends}]
    found = by_source or by_name or candidates
    if len(found) == 1:
        return found[0]["name"]
    listed = ", ".join(f"{model['name']} ({model.get('source')})" for model in candidates) or "none"
    called = " or ".join(dict.fromkeys(names)) or "the model"
    raise ValueError(
        f"{path} has results of several models, {listed}; which of them is {called} is not clear. Evaluate it alone, "
        "or give it the name of its folder (`urm evaluate --names`)."
    )


def _is_one_of(source: str | None, names: Sequence[str]) -> bool:
    """Whether the source is the same repository, or the same folder in other words."""
    return source is not None and any(
        source == name or Path(source).resolve() == Path(name).resolve() for name in names
    )


def _preferences(view: ResultsView, data: dict[str, Any], model: str) -> Iterator[Result]:
    """Accuracy of the model and the baselines; calibration before and after temperature; trust."""
    for name in (model, *view.baselines):
        of = None if name == model else name
        for found in view.of(data["name"], name):
            if found.metric == "accuracy" and (found.level is None or found.level in PARTS):
                yield _result("accuracy", found, data, of=of, group=found.group)
    for found in view.of(data["name"], model):
        whole = found.level is None and found.variant is not None
        if whole and found.metric in ("brier", "nll", "ece", "auroc_errors"):
            yield _result(CARD_NAMES.get(found.metric, found.metric), found, data, variant=found.variant)
        if found.metric in ("accuracy_kept", "accuracy_gain") and (found.level, found.group) == KEPT:
            yield _result(found.metric, found, data, variant=found.variant)


def _ratings(view: ResultsView, data: dict[str, Any], model: str) -> Iterator[Result]:
    """By attribute and averaged, with the noise ceiling."""
    for metric, (kind, _) in METRICS.items():
        if kind not in ("ratings", "spread"):
            continue
        for attribute in (None, *view.groups(data["name"], metric).get("attribute", [])):
            place = (None, None) if attribute is None else ("attribute", attribute)
            of_data = metric.startswith("noise_ceiling")
            of_model = view.get(data["name"], model, metric, *place)
            found = view.whosesoever(data["name"], metric, *place) if of_data else of_model
            if found:
                yield _result(metric, found, data, attribute=attribute, of="annotators" if of_data else None)


def _result(metric: str, found: Measured, data: dict[str, Any], **where: str | None) -> Result:
    source = data.get("source") or ""
    on_hub = HUB_ID.fullmatch(source) and not source.endswith(DATA_SUFFIXES) and not Path(source).exists()
    return Result(
        METRICS[metric][0],
        metric,
        found.value,
        interval=found.interval,
        n=found.n,
        split=data.get("split") or "",
        data=f"{data['name']} (in part)" if data.get("remarks") else data["name"],
        dataset=source if on_hub else None,
        **where,
    )
