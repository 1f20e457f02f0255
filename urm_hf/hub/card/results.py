"""Measured results that lie beside a model, in one form: what was measured, how it came out, on how many rows."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from urm_hf.checkpoints.files import read_json

# keys of `attribute_metrics` (`urm_hf.statistics.rating_metrics`) and of TRL's pair metrics: (kind, what a reader calls them)
METRICS = {
    "pearson": ("ratings", "Pearson r"),
    "spearman": ("ratings", "Spearman ρ"),
    "nll": ("ratings", "NLL"),
    "mse": ("ratings", "MSE"),
    "crps": ("ratings", "CRPS"),
    "single_pearson": ("ratings", "r with single ratings"),
    "noise_ceiling_pearson": ("ratings", "its noise ceiling"),
    "coverage50": ("spread", "in μ ± 0.674 σ"),
    "coverage68": ("spread", "in μ ± σ"),
    "coverage95": ("spread", "in μ ± 1.96 σ"),
    "residual_variance": ("spread", "mean of ((s − μ)/σ)²"),
    "spread_pearson": ("spread", "predicted and observed variance, r"),
    "accuracy": ("pairs", "accuracy"),
    "brier": ("probability", "Brier"),
    "pair_nll": ("probability", "NLL"),
    "ece": ("probability", "ECE"),
    "auroc_errors": ("trust", "AUROC for errors"),
    "accuracy_kept": ("trust", "accuracy of the 80 % kept"),
    "accuracy_gain": ("trust", "gain over all"),
}
FILES = ("results.json", "all_results.json", "eval_results.json")


@dataclass
class Result:
    """
    Args:
        kind: "ratings" (means against human ratings), "spread" (sigma against them), "pairs" (preference pairs),
            "probability" (of being preferred) or "trust" (whether uncertainty tells errors).
        metric: a key of `METRICS`. attribute: None for the average over attributes.
        interval: 95 %. n: rows or pairs. split: "test", or "validation" if the model was chosen by it.
        of: what was measured, where it is not the model itself ("equal weights", "length only").
        data: name of the data set, of results of `urm evaluate`. dataset: its repository on the Hub, if it has one.
        group: a section or domain of it. variant: kind of probability, or the uncertainty that rows are kept by.
    """

    kind: str
    metric: str
    value: float
    attribute: str | None = None
    interval: tuple[float, float] | None = None
    n: int | None = None
    split: str = "test"
    of: str | None = None
    data: str | None = None
    dataset: str | None = None
    group: str | None = None
    variant: str | None = None


def read_results(source: str | Path, names: Sequence[str] = ()) -> list[Result]:
    """
    The results of a file, or of the first of `FILES` that a folder has; none if there is none.

    Args:
        names: what the model is called, its folder or its repository, to find it in results of several
            (`urm evaluate`).

    Raises:
        ValueError: the results are of several models, and none or more than one of them has such a name.
    """
    path = Path(source)
    if path.is_dir():
        return next((found for name in FILES if (found := read_results(path / name, names))), [])
    content = read_json(path)
    if "schema" in content:
        from urm_hf.hub.card.evaluate_results import results_of

        return results_of(content, names, path)
    if isinstance(content.get("attributes"), dict) or "pairs" in content:
        results = [*_ratings_of_example(content), *_pairs_of_example(content)]
    else:
        results = of_evaluation(content)
    return [result for result in results if math.isfinite(result.value)]


def of_evaluation(metrics: dict[str, Any]) -> list[Result]:
    """Of a trainer's evaluation: keys like `eval_pearson`, `eval_pearson/helpfulness`, `eval_samples`."""
    n = metrics.get("eval_samples")
    results = []
    for key, value in metrics.items():
        name, _, attribute = key.removeprefix("eval_").partition("/")
        if key.startswith("eval_") and name in METRICS and isinstance(value, (int, float)) and math.isfinite(value):
            results.append(Result(METRICS[name][0], name, value, attribute or None, None, n, "validation"))
    return results


def _ratings_of_example(found: dict[str, Any]) -> Iterator[Result]:
    """Of `examples/ratings_and_pairs.py`."""
    intervals = found.get("attribute_intervals", {})
    for key, value in found.get("attributes", {}).items():
        name, _, attribute = key.partition("/")
        if name in METRICS:
            yield Result(
                METRICS[name][0], name, value, attribute or None, intervals.get(key), found.get("n_conversations")
            )


def _pairs_of_example(found: dict[str, Any]) -> Iterator[Result]:
    for name, result in found.get("pairs", {}).items():
        of = None if name == "gated" else name
        yield Result(
            "pairs", "accuracy", result["accuracy"], None, result.get("interval"), found.get("n_pairs"), of=of
        )
