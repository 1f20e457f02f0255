"""What a model card shows of `urm evaluate`: one model's numbers, beside those of the baselines."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from urm_hf.data.seen import TRAINED_ON
from urm_hf.evaluation.entries import BASELINE, DataEntry, ModelEntry
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.hub.folder import DATA_SUFFIXES, HUB_ID

CARD_NAMES = {"nll": "pair_nll"}  # of pairs; a card has the NLL of ratings as well
KEPT = ("kept", "0.8")
CARD_LEVELS = ("section", "domain")


def build_results(results: EvaluationResults, names: Sequence[str], path: Path) -> list[Result]:
    """
    Args:
        results: of `urm evaluate`. names: of the model, folder or repository. path: of the file, for errors.

    Raises:
        ValueError: which of its models is meant is not clear.
    """
    model = choose_model(results.models, names, path)
    rows: list[Result] = []
    for data in results.preferences:
        rows += _preferences(results, data, model)
    for data in results.ratings:
        rows += _ratings(results, data, model)
    return rows


def choose_model(models: Sequence[ModelEntry], names: Sequence[str], path: Path) -> str:
    """The model whose source or name is one of `names`, else the only one that is no baseline."""
    candidates = [model for model in models if model.kind != BASELINE]
    ends = {Path(name).name for name in names}
    by_source = [model for model in candidates if _is_one_of(model.source, names)]
    by_name = [model for model in candidates if model.name in {*names, *ends}]
    found = by_source or by_name or candidates
    if len(found) == 1:
        return found[0].name
    listed = ", ".join(f"{model.name} ({model.source})" for model in candidates) or "none"
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


def _preferences(results: EvaluationResults, data: DataEntry, model: str) -> Iterator[Result]:
    """Accuracy of the model and the baselines; calibration before and after temperature; trust."""
    for name in (model, *results.baselines):
        of = None if name == model else name
        for found in results.of(data.name, name):
            if found.metric == "accuracy" and (found.level is None or found.level in CARD_LEVELS):
                yield _result("accuracy", found, data, of=of, group=found.group)
    for found in results.of(data.name, model):
        whole = found.level is None and found.variant is not None
        if whole and found.metric in ("brier", "nll", "ece", "auroc_errors"):
            yield _result(CARD_NAMES.get(found.metric, found.metric), found, data, variant=found.variant)
        if found.metric in ("accuracy_kept", "accuracy_gain") and (found.level, found.group) == KEPT:
            yield _result(found.metric, found, data, variant=found.variant)


def _ratings(results: EvaluationResults, data: DataEntry, model: str) -> Iterator[Result]:
    """By attribute and averaged, with the noise ceiling."""
    for metric, (kind, _) in METRICS.items():
        if kind not in ("ratings", "spread"):
            continue
        for attribute in (None, *results.groups(data.name, metric).get("attribute", [])):
            place = (None, None) if attribute is None else ("attribute", attribute)
            of_data = metric.startswith("noise_ceiling")
            of_model = results.get(data.name, model, metric, *place)
            found = results.whosesoever(data.name, metric, *place) if of_data else of_model
            if found:
                yield _result(metric, found, data, attribute=attribute, of="annotators" if of_data else None)


def _result(metric: str, found: Measured, data: DataEntry, **where: str | None) -> Result:
    source = data.source or ""
    trained_on = any(told.startswith(TRAINED_ON) for notes in data.notes.values() for told in notes)
    told = "trained on" if trained_on else "in part" if data.remarks else ""
    on_hub = HUB_ID.fullmatch(source) and not source.endswith(DATA_SUFFIXES) and not Path(source).exists()
    return Result(
        METRICS[metric][0],
        metric,
        found.value,
        interval=found.interval,
        n=found.n,
        split=data.split or "",
        data=f"{data.name} ({told})" if told else data.name,
        dataset=source if on_hub else None,
        **where,
    )
