"""The files of results that lie beside a model, read."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from urm_hf.checkpoints.files import read_json
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.hub.card.evaluate_results import build_results
from urm_hf.hub.card.results import METRICS, Result

FILES = ("results.json", "all_results.json", "eval_results.json")


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
        return build_results(EvaluationResults.from_json(content), names, path)
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
