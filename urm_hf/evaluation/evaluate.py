"""Every model on every data set: what `urm evaluate` measures, as the content of its results.json."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

import urm_hf
from urm_hf.evaluation.comparison import Judged, compare_decisions, compare_losses
from urm_hf.evaluation.data import EvaluationData
from urm_hf.evaluation.found import Found
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.model_scores import ModelScores, OpenModel
from urm_hf.evaluation.pairs.accuracy import accuracy_of, judged
from urm_hf.evaluation.pairs.baselines import LONGEST, RANDOM, longest_answer, random_metrics
from urm_hf.evaluation.pairs.calibration import calibration
from urm_hf.evaluation.pairs.scored_pairs import scored_pairs
from urm_hf.evaluation.pairs.selective import selective
from urm_hf.evaluation.preferences import PreferenceSet
from urm_hf.evaluation.ratings.baselines import CONSTANT, constant_metrics, noise_ceiling
from urm_hf.evaluation.ratings.data import RatingSet, matched_models
from urm_hf.evaluation.ratings.metrics import rating_metrics, row_nll
from urm_hf.evaluation.results import SCHEMA, VERSION
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.measures import available


@dataclass(frozen=True)
class Statistics:
    """
    Args:
        samples: of prompts, for intervals. above: "either" or "both", as in `urm_hf.filtering.pair_values`.
        attribute_map: the data's attributes by those of the models, where they have other names.
    """

    samples: int = 1000
    seed: int = 0
    above: str = "either"
    attribute_map: Mapping[str, str] | None = None


def evaluate(
    models: Sequence[OpenModel], data: Sequence[EvaluationData], folder: Path, statistics: Statistics
) -> dict[str, Any]:
    """
    Args:
        folder: where scores are kept, a folder for each data set. Models are loaded one after the other.

    Returns:
        The content of results.json, as docs/evaluation.md defines it, without `command`.
    """
    scores: dict[str, dict[str, ModelScores]] = {one.name: {} for one in data}
    described = []
    for model in models:
        for one in data:
            scores[one.name][model.name] = model.scores(one.conversations, folder / one.name, one.origins)
        model.scorer = None  # makes room for the next
        described.append(_description([scores[one.name][model.name] for one in data]))
    results = _header(statistics) | {"models": described, "data": [one.description for one in data]}
    results |= {"metrics": [], "comparisons": [], "curves": [], "absent": []}
    for one in data:
        if isinstance(one.content, PreferenceSet):
            _add_preferences(results, one.content, scores[one.name], statistics)
        else:
            _add_ratings(results, one.content, scores[one.name], statistics)
    used = {entry["model"] for entry in results["metrics"]}
    results["models"] += [{"name": n, "kind": "baseline"} for n in (LONGEST, RANDOM, CONSTANT) if n in used]
    return results


def _header(statistics: Statistics) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "urm_hf": urm_hf.__version__,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "seed": statistics.seed,
        "bootstrap_samples": statistics.samples,
        "filter": statistics.above,
    }


def _description(scores: Sequence[ModelScores]) -> dict[str, Any]:
    """A model as results.json lists it, from its scores on every data set."""
    first = scores[0]
    known = [set(available(found.scores)) for found in scores]
    return {
        "name": first.name,
        "kind": first.kind,
        "source": first.source,
        "revision": first.revision,
        "attributes": first.attributes,
        "uncertainties": [name for name in available(first.scores) if all(name in one for one in known)],
    }


def _add_preferences(
    results: dict[str, Any], preferences: PreferenceSet, scores: Mapping[str, ModelScores], statistics: Statistics
):
    """Accuracy, calibration and filtering of every model and of the baselines, and their comparisons."""
    decided: dict[str, Judged] = {}
    everybody = {name: found.scores for name, found in scores.items()} | {LONGEST: longest_answer(preferences)}
    for name, found in everybody.items():
        rewards = np.array([score.reward for score in found])
        measured = Found(accuracy_of(preferences, rewards, statistics.samples, statistics.seed))
        decided[name] = judged(preferences, rewards, statistics.samples, statistics.seed)
        if name != LONGEST:
            measured += Found([_truncated(found, preferences)])
            pairs = scored_pairs(preferences, found)
            measured += calibration(pairs, statistics.samples, statistics.seed)
            measured += selective(pairs, statistics.samples, statistics.seed, statistics.above)
        _add(results, preferences.name, name, measured)
    _add(results, preferences.name, RANDOM, Found(random_metrics(preferences)))
    compared = compare_decisions(decided, baselines=[LONGEST])
    results["comparisons"] += [{"data": preferences.name, **comparison} for comparison in compared]


def _add_ratings(
    results: dict[str, Any], ratings: RatingSet, scores: Mapping[str, ModelScores], statistics: Statistics
):
    """Every model against the ratings, beside the constant predictor and the noise ceiling; NLLs compared."""
    samples, seed = statistics.samples, statistics.seed
    losses: dict[tuple[str, ...], dict[str, np.ndarray]] = {}  # by the attributes that they are of
    attributes = {name: found.attributes for name, found in scores.items() if found.attributes}
    mappings = matched_models(ratings, attributes, statistics.attribute_map)
    for name, found in scores.items():
        mapping = mappings.get(name, {})
        _add(results, ratings.name, name, rating_metrics(ratings, found.scores, mapping, samples, seed))
        if mapping:
            judged_on = tuple(sorted(mapping.values()))
            losses.setdefault(judged_on, {})[name] = row_nll(ratings, found.scores, mapping)
    ceiling = noise_ceiling(ratings, samples, seed)
    _add(results, ratings.name, CONSTANT, constant_metrics(ratings, samples, seed) + ceiling)
    for of_models in losses.values():
        compared = compare_losses(of_models, ratings.prompts, "nll", samples, seed)
        results["comparisons"] += [{"data": ratings.name, **comparison} for comparison in compared]


def _add(results: dict[str, Any], data: str, model: str, found: Found):
    where = {"data": data, "model": model}
    results["metrics"] += [where | asdict(measured) for measured in found.metrics]
    results["curves"] += [where | curve for curve in found.curves]
    results["absent"] += [where | {"metric": metric, "reason": reason} for metric, reason in found.absent.items()]


def _truncated(scores: Sequence[RewardScore], preferences: PreferenceSet) -> Measured:
    """The share of conversations that were cut before they were scored."""
    cut = np.mean([bool(score.truncated) for score in scores])
    return Measured("truncated", float(cut), None, len(scores), preferences.prompts)
