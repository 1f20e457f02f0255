"""Every model on every data set: what `urm evaluate` measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import cast

import numpy as np

import urm_hf
from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
from urm_hf.data.seen import describe_other_form, describe_seen, join_forms
from urm_hf.evaluation.benchmarks.benchmark import PreferenceSet
from urm_hf.evaluation.comparison import JudgedModel, compare_decisions, compare_losses
from urm_hf.evaluation.data import EvaluationData
from urm_hf.evaluation.entries import Absence, Comparison, Curve, DataEntry, Metric, ModelEntry
from urm_hf.evaluation.judge_verdicts import JUDGE, JudgeVerdicts, measure_judge
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.model_scores import ModelScores, OpenModel
from urm_hf.evaluation.pairs.accuracy import accuracy_of, judge
from urm_hf.evaluation.pairs.baselines import LONGEST, RANDOM, longest_answer, random_metrics
from urm_hf.evaluation.pairs.calibration import calibration
from urm_hf.evaluation.pairs.scored_pairs import scored_pairs
from urm_hf.evaluation.pairs.selective import selective
from urm_hf.evaluation.ratings.baselines import CONSTANT, constant_metrics, noise_ceiling
from urm_hf.evaluation.ratings.data import RATINGS, RatingSet, matched_models
from urm_hf.evaluation.ratings.metrics import rating_metrics, row_nll
from urm_hf.evaluation.results import EvaluationResults
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.measures import available


@dataclass(frozen=True)
class Statistics:
    """
    Args:
        samples: of prompts, for intervals.
        above: "either" or "both", as in `urm_hf.filtering.combine_pair_uncertainty`.
        attribute_map: the data's attributes by those of the models, where they have other names.
    """

    samples: int = 1000
    seed: int = 0
    above: str = "either"
    attribute_map: Mapping[str, str] | None = None


def evaluate(
    models: Sequence[OpenModel | JudgeVerdicts],
    data: Sequence[EvaluationData],
    folder: Path,
    statistics: Statistics,
) -> EvaluationResults:
    """
    Args:
        models (`Sequence[OpenModel | JudgeVerdicts]`): loaded one after the other.
        data (`Sequence[EvaluationData]`): each scored by every model.
        folder (`Path`): where scores are kept, a folder for each data set.
        statistics (`Statistics`): how intervals are computed.
    """
    _check_attributes(models, data, statistics)
    for model in models:
        for one in data:
            model.check_data(one)
    data = [_add_notes(one, models) for one in data]
    scores: dict[str, dict[str, ModelScores]] = {one.name: {} for one in data}
    for model in models:
        for one in data:
            scores[one.name][model.name] = model.score_data(one, folder / one.name)
        model.scorer = None  # makes room for the next
    return evaluate_scores(scores, data, statistics)


def _add_notes(data: EvaluationData, models: Sequence[OpenModel | JudgeVerdicts]) -> EvaluationData:
    """A data set with what is to be known of the models' numbers on it: what they were trained on, and as what."""
    notes: dict[str, list[str]] = {}
    forms = join_forms(data.conversations)
    for model in models:
        training = model.read_training()
        told = [describe_seen(training, data.conversations), describe_other_form(training, forms)]
        if data.content.kind != RATINGS and model.has_untrained_gate():
            told.append(UNTRAINED_GATE)
        notes[model.name] = [one for one in told if one is not None]
    told_of = {name: told for name, told in notes.items() if told}
    return replace(data, description=data.description | {"notes": told_of})


def _check_attributes(
    models: Sequence[OpenModel | JudgeVerdicts], data: Sequence[EvaluationData], statistics: Statistics
):
    """A ValueError if no model's attributes are those of rated data: told before hours of scoring, not after."""
    attributes = {model.name: found for model in models if (found := model.read_attributes())}
    for one in data:
        if one.content.kind == RATINGS:
            matched_models(cast(RatingSet, one.content), attributes, statistics.attribute_map)


def evaluate_scores(
    scores: Mapping[str, Mapping[str, ModelScores]], data: Sequence[EvaluationData], statistics: Statistics
) -> EvaluationResults:
    """
    The same of models that have scored already.

    Args:
        scores (`Mapping`): by data set and model; every model has scores of every data set.
        data (`Sequence[EvaluationData]`): what was scored.
        statistics (`Statistics`): how intervals are computed.
    """
    gathered = _Gathered()
    for one in data:
        if one.content.kind == RATINGS:
            _measure_ratings(gathered, cast(RatingSet, one.content), scores[one.name], statistics)
        else:
            _measure_preferences(gathered, cast(PreferenceSet, one.content), scores[one.name], statistics)
    names = list(scores[data[0].name])  # every data set was scored by the same models, in this order
    measured = {metric.model for metric in gathered.metrics}
    baselines = [ModelEntry(name, "baseline") for name in (LONGEST, RANDOM, CONSTANT) if name in measured]
    return EvaluationResults(
        models=[_describe([scores[one.name][name] for one in data]) for name in names] + baselines,
        data=[DataEntry(**one.description) for one in data],
        metrics=gathered.metrics,
        comparisons=gathered.comparisons,
        curves=gathered.curves,
        absences=gathered.absences,
        urm_hf=urm_hf.__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        seed=statistics.seed,
        bootstrap_samples=statistics.samples,
        filter=statistics.above,
    )


@dataclass
class _Gathered:
    """The lists of the results, while they grow."""

    metrics: list[Metric] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)

    def add(self, data: str, model: str, measurements: Measurements):
        self.metrics += [Metric(data, model, measured) for measured in measurements.metrics]
        self.curves += [replace(curve, data=data, model=model) for curve in measurements.curves]
        self.absences += [Absence(data, model, metric, reason) for metric, reason in measurements.absent.items()]

    def compare(self, data: str, comparisons: Sequence[Comparison]):
        self.comparisons += [replace(comparison, data=data) for comparison in comparisons]


def _describe(scores: Sequence[ModelScores]) -> ModelEntry:
    """A model, from its scores on every data set."""
    first = scores[0]
    known = [set(available(one.scores)) for one in scores]
    return ModelEntry(
        name=first.name,
        kind=first.kind,
        source=first.source,
        revision=first.revision,
        attributes=first.attributes,
        uncertainties=[name for name in available(first.scores) if all(name in one for one in known)],
    )


def _measure_preferences(
    gathered: _Gathered, preferences: PreferenceSet, scores: Mapping[str, ModelScores], statistics: Statistics
):
    """Accuracy, calibration and filtering of every model and of the baselines, and their comparisons."""
    samples, seed = statistics.samples, statistics.seed
    judged: dict[str, JudgedModel] = {}
    everybody = {name: one.scores for name, one in scores.items()} | {LONGEST: longest_answer(preferences)}
    for name, scored in everybody.items():
        rewards = np.array([score.reward for score in scored])
        measurements = Measurements(accuracy_of(preferences, rewards, samples, seed))
        # with the same seed for all, models are compared on the same samples of prompts
        judged[name] = judge(preferences, rewards, samples, seed)
        if name in scores and scores[name].kind == JUDGE:
            measurements += measure_judge(preferences, scores[name], samples, seed)
        elif name != LONGEST:
            pairs = scored_pairs(preferences, scored)
            measurements += Measurements([_measure_truncated(scored, preferences)])
            measurements += calibration(pairs, samples, seed)
            measurements += selective(pairs, samples, seed, statistics.above)
        gathered.add(preferences.name, name, measurements)
    gathered.add(preferences.name, RANDOM, Measurements(random_metrics(preferences)))
    gathered.compare(preferences.name, compare_decisions(judged, baselines=[LONGEST]))


def _measure_ratings(
    gathered: _Gathered, ratings: RatingSet, scores: Mapping[str, ModelScores], statistics: Statistics
):
    """Every model against the ratings, beside the constant predictor and the noise ceiling; NLLs compared."""
    samples, seed = statistics.samples, statistics.seed
    losses: dict[tuple[str, ...], dict[str, np.ndarray]] = {}  # by the attributes that they are of
    attributes = {name: one.attributes for name, one in scores.items() if one.attributes}
    mappings = matched_models(ratings, attributes, statistics.attribute_map)
    for name, one in scores.items():
        mapping = mappings.get(name, {})
        gathered.add(ratings.name, name, rating_metrics(ratings, one.scores, mapping, samples, seed))
        if mapping and one.scores[0].get("attribute_stds") is not None:
            # likelihoods of different attributes are sums of different things, and are not compared
            judged_on = tuple(sorted(mapping.values()))
            losses.setdefault(judged_on, {})[name] = row_nll(ratings, one.scores, mapping)
    baseline = constant_metrics(ratings, samples, seed) + noise_ceiling(ratings, samples, seed)
    gathered.add(ratings.name, CONSTANT, baseline)
    for of_models in losses.values():
        gathered.compare(ratings.name, compare_losses(of_models, ratings.prompts, "nll", samples, seed))


def _measure_truncated(scores: Sequence[RewardScore], preferences: PreferenceSet) -> Measured:
    """The share of conversations that were cut before they were scored."""
    cut = np.mean([bool(score.truncated) for score in scores])
    return Measured("truncated", float(cut), None, len(scores), preferences.n_prompts)
