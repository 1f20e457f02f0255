"""
What an evaluation measured, typed: `results.json` as docs/evaluation.md defines it, read once and written once.

`EvaluationResults` holds the lists of the file; its methods look things up in them. Report, terminal and model card
read it, and nothing else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from urm_hf.evaluation import entries_json
from urm_hf.evaluation.entries import BASELINE, RATINGS, Absence, Comparison, Curve, DataEntry, Metric, ModelEntry
from urm_hf.evaluation.measured import Measured

SCHEMA, VERSION = "urm-hf evaluation", 1
CHANCE = "random"  # the baseline that guesses

Place: TypeAlias = tuple[str, str, str, str | None, str | None, str | None]  # from data set to variant


@dataclass(frozen=True)
class EvaluationResults:
    """
    Models, data sets, and everything that was measured of them.

    Args:
        models (`list[ModelEntry]`), data (`list[DataEntry]`): what was evaluated.
        metrics, comparisons, curves, absences (`list`): what was found; each entry names its data set and model.
        urm_hf, created, command (`str`, *optional*): how the file was made.
        seed, bootstrap_samples (`int`, *optional*): of the intervals.
        filter (`str`, *optional*): "either" or "both", which of two answers must be unsure to drop a pair.
    """

    models: list[ModelEntry] = field(default_factory=list)
    data: list[DataEntry] = field(default_factory=list)
    metrics: list[Metric] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    absences: list[Absence] = field(default_factory=list)
    urm_hf: str | None = None
    created: str | None = None
    command: str | None = None
    seed: int | None = None
    bootstrap_samples: int | None = None
    filter: str | None = None

    @classmethod
    def read(cls, path: Path | str) -> "EvaluationResults":
        """
        Args:
            path (`Path` or `str`): a `results.json`.

        Raises:
            ValueError: it is no JSON, not what `urm evaluate` wrote, of a newer version, or damaged; says where.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}). Evaluate again.") from error
        try:
            return cls.from_json(content)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_json(cls, content: Any) -> "EvaluationResults":
        """
        Args:
            content (`dict`): of `results.json`. Fields that this version does not know are ignored.

        Raises:
            ValueError: it is not what `urm evaluate` wrote, of a newer version, or damaged; names the entry and field.
        """
        _check_header(content)
        metrics = entries_json.read_list(content, "metrics", entries_json.read_metric)
        return cls(
            models=entries_json.read_list(content, "models", entries_json.read_model),
            data=entries_json.read_list(content, "data", entries_json.read_data),
            metrics=[metric for metric in metrics if metric is not None],
            comparisons=entries_json.read_list(content, "comparisons", entries_json.read_comparison),
            curves=entries_json.read_list(content, "curves", entries_json.read_curve),
            absences=entries_json.read_list(content, "absent", entries_json.read_absence),
            **{name: content.get(name) for name in HEADER},
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `results.json`, as docs/evaluation.md defines it."""
        header = {name: getattr(self, name) for name in HEADER if name != "command"}
        content = {"schema": SCHEMA, "version": VERSION} | header
        content["models"] = [entries_json.write_model(model) for model in self.models]
        content["data"] = [entries_json.write_data(data) for data in self.data]
        content["metrics"] = [
            {"data": metric.data, "model": metric.model} | asdict(metric.measured) for metric in self.metrics
        ]
        content["comparisons"] = [entries_json.write_comparison(comparison) for comparison in self.comparisons]
        content["curves"] = [entries_json.write_curve(curve) for curve in self.curves]
        content["absent"] = [asdict(absence) for absence in self.absences]
        return content | ({"command": self.command} if self.command else {})

    @cached_property
    def names(self) -> list[str]:
        """The models that are no baselines."""
        return [model.name for model in self.models if model.kind != BASELINE]

    @cached_property
    def baselines(self) -> list[str]:
        return [model.name for model in self.models if model.kind == BASELINE]

    @property
    def preferences(self) -> list[DataEntry]:
        return [data for data in self.data if data.kind != RATINGS]

    @property
    def ratings(self) -> list[DataEntry]:
        return [data for data in self.data if data.kind == RATINGS]

    @cached_property
    def _by_place(self) -> dict[Place, Measured]:
        """Each number by where it belongs."""
        places: dict[Place, Measured] = {}
        for metric in self.metrics:
            one = metric.measured
            places[metric.data, metric.model, one.metric, one.level, one.group, one.variant] = one
        return places

    def get(
        self,
        data: str,
        model: str,
        metric: str,
        level: str | None = None,
        group: str | None = None,
        variant: str | None = None,
    ) -> Measured | None:
        """One metric; None where it was not measured or has no value."""
        return self._by_place.get((data, model, metric, level, group, variant))

    def of(self, data: str, model: str) -> Iterator[Measured]:
        """All metrics of a model on a data set, in the file's order."""
        return (one for place, one in self._by_place.items() if place[:2] == (data, model))

    def whosesoever(
        self, data: str, metric: str, level: str | None = None, group: str | None = None
    ) -> Measured | None:
        """A metric that belongs to the data, such as a noise ceiling, whichever model it is listed under."""
        wanted = (metric, level, group, None)
        return next((one for place, one in self._by_place.items() if place[0] == data and place[2:] == wanted), None)

    def variants(self, data: str, model: str, metric: str) -> list[str]:
        """The flavours in which a model's metric was measured."""
        flavours = (one.variant for one in self.of(data, model) if one.metric == metric)
        return list(dict.fromkeys(variant for variant in flavours if variant is not None))

    def groups(self, data: str, metric: str) -> dict[str, list[str]]:
        """The levels at which a metric was measured for any model, each with its groups."""
        levels: dict[str, list[str]] = {}
        for entry in self.metrics:
            one = entry.measured
            if (entry.data, one.metric) != (data, metric) or not one.level or not one.group:
                continue
            if one.group not in levels.setdefault(one.level, []):
                levels[one.level].append(one.group)
        return levels

    def rank(self, data: str, metric: str = "accuracy") -> list[tuple[str, Measured]]:
        """The models for which a metric of all rows is known, the highest first."""
        known = [(model, one) for model in self.names if (one := self.get(data, model, metric))]
        return sorted(known, key=lambda pair: -pair[1].value)

    def chance(self, data: str) -> float | None:
        """The expected accuracy of random rewards."""
        accuracy = self.get(data, CHANCE, "accuracy")
        return accuracy.value if accuracy else None

    def comparisons_on(self, data: str) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.data == data]

    def compare(self, data: str, model_a: str, model_b: str) -> Comparison | None:
        """The paired comparison of two models, turned so that its difference is that of a minus b."""
        for comparison in self.comparisons_on(data):
            if (comparison.model_a, comparison.model_b) == (model_a, model_b):
                return comparison
            if (comparison.model_a, comparison.model_b) == (model_b, model_a):
                return comparison.turn()
        return None

    def curves_of(self, data: str, model: str, curve: str) -> dict[str, Curve]:
        """The curves of one kind, by variant."""
        wanted = (data, model, curve)
        return {one.variant: one for one in self.curves if (one.data, one.model, one.curve) == wanted}


def to_results(results: EvaluationResults | Mapping[str, Any]) -> EvaluationResults:
    """Results as they are, or from the content of a `results.json`."""
    return results if isinstance(results, EvaluationResults) else EvaluationResults.from_json(results)


HEADER = ("urm_hf", "created", "seed", "bootstrap_samples", "filter", "command")


def is_evaluation(content: Any) -> bool:
    return isinstance(content, Mapping) and content.get("schema") == SCHEMA


def _check_header(content: Any):
    if not isinstance(content, Mapping):
        raise ValueError(f"these are not results of `urm evaluate`: {type(content).__name__} where a mapping belongs.")
    if not is_evaluation(content):
        raise ValueError(f"these are not results of `urm evaluate`: `schema` is {content.get('schema')!r}.")
    if content.get("version") != VERSION:
        told = f"results of version {content.get('version')!r}; this urm-hf reads version {VERSION}"
        raise ValueError(f"{told}. Evaluate again, or update urm-hf.")
    lists = ("models", "data", "metrics", "comparisons", "curves")
    missing = [name for name in lists if not isinstance(content.get(name), list)]
    if missing:
        raise ValueError(f"the results of `urm evaluate` are damaged: they have no list {', '.join(missing)}.")
