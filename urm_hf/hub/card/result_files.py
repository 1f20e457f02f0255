"""
The files of results that lie beside a model: results.json of `urm evaluate`, the short form below, a trainer's own.

The short form is what a script writes that measured its own model on a held-out part ([`build_short_results`]):
`attributes` and `attribute_intervals` by metric and attribute (`pearson`, `pearson/helpfulness`), `n_conversations`;
`pairs` with `accuracy` and `interval` of the model (`gated`) and of what it is compared with, `n_pairs`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from urm_hf.checkpoints.files import read_json
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.hub.card.evaluate_results import build_results
from urm_hf.hub.card.results import METRICS, Result
from urm_hf.modeling.checks_urm import explain_damage

FILES = ("results.json", "all_results.json", "eval_results.json")
MODEL = "gated"  # among the pairs of the short form, the model itself


def build_short_results(
    attributes: Mapping[str, float],
    attribute_intervals: Mapping[str, Sequence[float]],
    n_conversations: int,
    pairs: Mapping[str, Mapping[str, Any]] | None = None,
    n_pairs: int = 0,
) -> dict[str, Any]:
    """
    The short form, for `results.json` in a model's folder, from where `urm push` takes it into the card.

    Args:
        attributes (`dict[str, float]`): of `attribute_metrics`. attribute_intervals: 95 %, of some or all of them.
        n_conversations (`int`): rated conversations behind them.
        pairs (`dict`, *optional*): `{"accuracy": ..., "interval": ...}` of the model, as [`MODEL`], and of baselines.
        n_pairs (`int`, *optional*): pairs behind them.
    """
    results = {
        "attributes": dict(attributes),
        "attribute_intervals": dict(attribute_intervals),
        "n_conversations": n_conversations,
    }
    return results if pairs is None else results | {"pairs": dict(pairs), "n_pairs": n_pairs}


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
    with explain_damage(str(path)):
        if "schema" in content:
            return build_results(EvaluationResults.from_json(content), names, path)
        if isinstance(content.get("attributes"), dict) or "pairs" in content:
            results = [*_read_attributes(content), *_read_pairs(content)]
        else:
            results = of_evaluation(content)
    for result in results:
        _check_numbers(result, path)
    return [result for result in results if math.isfinite(result.value)]


def _check_numbers(result: Result, path: Path):
    """Refuses results of which a table could only print what somebody wrote into the file."""
    interval = [] if result.interval is None else result.interval
    bounds = list(interval) if isinstance(interval, (list, tuple)) else [interval]
    wrong = [value for value in (result.value, *bounds, result.n or 0) if not _is_number(value)]
    if wrong or len(bounds) not in (0, 2):
        name = f"{result.metric}/{result.attribute}" if result.attribute else result.metric
        raise ValueError(
            f"{path} is damaged: {name!r:.100} has {(wrong or bounds)[0]!r:.100} where numbers belong: a value, two "
            "bounds and a count. Measure again, or take the file away."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def of_evaluation(metrics: dict[str, Any]) -> list[Result]:
    """Of a trainer's evaluation: keys like `eval_pearson`, `eval_pearson/helpfulness`, `eval_samples`."""
    n = metrics.get("eval_samples")
    results = []
    for key, value in metrics.items():
        name, _, attribute = key.removeprefix("eval_").partition("/")
        if key.startswith("eval_") and name in METRICS and isinstance(value, (int, float)) and math.isfinite(value):
            results.append(Result(METRICS[name][0], name, value, attribute or None, None, n, "validation"))
    return results


def _read_attributes(found: dict[str, Any]) -> Iterator[Result]:
    intervals = found.get("attribute_intervals", {})
    for key, value in found.get("attributes", {}).items():
        name, _, attribute = key.partition("/")
        if name in METRICS:
            yield Result(
                METRICS[name][0], name, value, attribute or None, intervals.get(key), found.get("n_conversations")
            )


def _read_pairs(found: dict[str, Any]) -> Iterator[Result]:
    for name, result in found.get("pairs", {}).items():
        of = None if name == MODEL else name
        yield Result(
            "pairs", "accuracy", result["accuracy"], None, result.get("interval"), found.get("n_pairs"), of=of
        )
