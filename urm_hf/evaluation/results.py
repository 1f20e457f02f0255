"""
What an evaluation measured, typed: `results.json` as docs/evaluation.md defines it, read once and written once.

`EvaluationResults` holds the lists of the file; its methods look things up in them. Report, terminal and model card
read it, and nothing else.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from urm_hf.evaluation.benchmarks import BY_NAME
from urm_hf.evaluation.measured import Measured

SCHEMA, VERSION = "urm-hf evaluation", 1
CHANCE = "random"  # the baseline that guesses
BASELINE, RATINGS = "baseline", "ratings"  # a kind of model, and one of data

Entry = TypeVar("Entry")
Place: TypeAlias = tuple[str, str, str, str | None, str | None, str | None]  # from data set to variant


@dataclass(frozen=True)
class ModelEntry:
    """
    A model, or a baseline, of which only name and kind are known.

    Args:
        name (`str`): as tables call it.
        kind (`str`): "urm", "ensemble", "scalar", "scores" or "baseline".
        source, revision (`str`, *optional*): where it comes from.
        attributes (`list[str]`, *optional*): that it predicts.
        uncertainties (`list[str]`, *optional*): the measures that it gives.
    """

    name: str
    kind: str
    source: str | None = None
    revision: str | None = None
    attributes: list[str] | None = None
    uncertainties: list[str] | None = None


@dataclass(frozen=True)
class DataEntry:
    """
    A data set.

    Args:
        name (`str`): as tables call it.
        kind (`str`): a benchmark's name, or "ratings".
        rows, prompts (`int`): that were used, and how many distinct prompts they have.
        source, revision, split (`str`, *optional*): where it comes from.
        skipped (`dict[str, int]`, *optional*): rows left out, by reason.
        subsets (`dict[str, int]`, *optional*): rows by subset.
        remarks (`list[str]`, *optional*): how it differs from the whole benchmark.
        noun (`str`, *optional*): what accuracy counts: "pair", "prompt".
        mean (`str`, *optional*): what the overall accuracy is, where it is not the mean of all.
    """

    name: str
    kind: str
    rows: int
    prompts: int
    source: str | None = None
    revision: str | None = None
    split: str | None = None
    skipped: dict[str, int] = field(default_factory=dict)
    subsets: dict[str, int] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    noun: str = ""
    mean: str = ""


@dataclass(frozen=True)
class Metric:
    """One measured number of a model on a data set."""

    data: str
    model: str
    measured: Measured


@dataclass(frozen=True)
class Comparison:
    """
    Two models on the same items, pair by pair or rating by rating.

    Args:
        difference (`float`): of a less that of b: of accuracies, or of `metric` where that is named.
        interval (`tuple[float, float]`, *optional*): 95 %, of the difference.
        n, prompts (`int`, *optional*): decisions behind it, and their distinct prompts.
        only_a, only_b (`int`, *optional*): decisions that one alone gets right.
        p_value, p_adjusted (`float`): two-sided, and Holm's over its family. test (`str`): by which.
    """

    model_a: str
    model_b: str
    difference: float
    interval: tuple[float, float] | None
    p_value: float
    test: str
    n: int | None = None
    prompts: int | None = None
    only_a: int | None = None
    only_b: int | None = None
    p_adjusted: float | None = None
    metric: str | None = None
    data: str = ""

    def turn(self) -> "Comparison":
        """The same comparison with a and b exchanged."""
        return replace(
            self,
            model_a=self.model_b,
            model_b=self.model_a,
            difference=-self.difference,
            interval=None if self.interval is None else (-self.interval[1], -self.interval[0]),
            only_a=self.only_b,
            only_b=self.only_a,
        )


@dataclass(frozen=True)
class Curve:
    """
    Points with intervals: "risk_coverage" or "reliability".

    Args:
        variant (`str`): the measure, or the kind of probability. x, y, low, high (`list`): of each point; null is
            unknown. n (`list[int]`, *optional*): pairs behind each point.
    """

    curve: str
    variant: str
    x: list[float]
    y: list[float]
    low: list[float | None]
    high: list[float | None]
    n: list[int] | None = None
    data: str = ""
    model: str = ""


@dataclass(frozen=True)
class Absence:
    """What could not be measured, and why."""

    data: str
    model: str
    metric: str
    reason: str


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
        return cls(
            models=_read_list(content, "models", lambda entry, where: _read_entry(ModelEntry, entry, where)),
            data=_read_list(content, "data", _read_data),
            metrics=[metric for metric in _read_list(content, "metrics", _read_metric) if metric is not None],
            comparisons=_read_list(content, "comparisons", _read_comparison),
            curves=_read_list(content, "curves", _read_curve),
            absences=_read_list(content, "absent", lambda entry, where: _read_entry(Absence, entry, where)),
            **{name: content.get(name) for name in HEADER},
        )

    def to_json(self) -> dict[str, Any]:
        """The content of `results.json`, as docs/evaluation.md defines it."""
        header = {name: getattr(self, name) for name in HEADER if name != "command"}
        content = {"schema": SCHEMA, "version": VERSION} | header
        content["models"] = [_write_model(model) for model in self.models]
        content["data"] = [_write_data(data) for data in self.data]
        content["metrics"] = [
            {"data": metric.data, "model": metric.model} | asdict(metric.measured) for metric in self.metrics
        ]
        content["comparisons"] = [_write_comparison(comparison) for comparison in self.comparisons]
        content["curves"] = [_write_curve(curve) for curve in self.curves]
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


def _read_list(content: Mapping[str, Any], name: str, read: Callable[[Any, str], Entry]) -> list[Entry]:
    """The entries of a list, each read with its place for errors."""
    entries = content.get(name) or []
    return [read(entry, f"{name}[{number}]") for number, entry in enumerate(entries)]


def _read_entry(entry_type: type[Entry], entry: Any, where: str, **known: Any) -> Entry:
    """A dataclass from a mapping: fields that have no default must be there, unknown ones are left out."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"the results are damaged: {where} is {entry!r:.60}, not a mapping. Evaluate again.")
    names = [one.name for one in fields(entry_type)]  # type: ignore[arg-type]
    values = {name: entry[name] for name in names if name in entry} | known
    try:
        return entry_type(**values)
    except TypeError as error:
        lacks = str(error).partition("argument")[2].strip(" s:") or str(error)
        raise ValueError(f"the results are damaged: {where} lacks {lacks}. Evaluate again.") from error


def _read_data(entry: Any, where: str) -> DataEntry:
    """What is counted, a benchmark of this package says by its name; any other said it in the file."""
    data = _read_entry(DataEntry, entry, where)
    if data.kind in BY_NAME:
        return replace(data, noun=BY_NAME[data.kind].noun, mean=BY_NAME[data.kind].mean)
    return replace(data, noun=data.noun or ("rating" if data.kind == RATINGS else "pair"))


def _read_metric(entry: Any, where: str) -> Metric | None:
    """None where the value is null: it was not measured."""
    if isinstance(entry, Mapping) and entry.get("value", 0) is None:
        return None
    place = _read_entry(_Place, entry, where)
    if not _is_number(entry.get("value")):
        raise ValueError(f"the results are damaged: {where} has the `value` {entry.get('value')!r}. Evaluate again.")
    measured = _read_entry(Measured, entry, where, interval=_read_interval(entry, where))
    return Metric(place.data, place.model, measured)


@dataclass(frozen=True)
class _Place:
    data: str
    model: str


def _read_comparison(entry: Any, where: str) -> Comparison:
    interval = _read_interval(entry, where) if isinstance(entry, Mapping) else None
    return _read_entry(Comparison, entry, where, interval=interval)


def _read_curve(entry: Any, where: str) -> Curve:
    """With lists of one length; bounds may be missing."""
    lists = {name: entry.get(name) for name in ("x", "y", "low", "high")} if isinstance(entry, Mapping) else {}
    unknown = [None] * len(lists.get("x") or [])
    bounds = {name: lists.get(name) or unknown for name in ("low", "high")}
    curve = _read_entry(Curve, entry, where, **bounds)
    if len({len(curve.x), len(curve.y), len(curve.low), len(curve.high)}) > 1:
        raise ValueError(f"the results are damaged: the lists of {where} have several lengths. Evaluate again.")
    return curve


def _read_interval(entry: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    interval = entry.get("interval")
    if interval is None or (isinstance(interval, Sequence) and None in interval):
        return None
    if not isinstance(interval, Sequence) or len(interval) != 2 or not all(map(_is_number, interval)):
        raise ValueError(f"the results are damaged: {where} has the `interval` {interval!r:.60}. Evaluate again.")
    return interval[0], interval[1]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _write_model(model: ModelEntry) -> dict[str, Any]:
    return {"name": model.name, "kind": model.kind} if model.kind == BASELINE else asdict(model)


def _write_data(data: DataEntry) -> dict[str, Any]:
    """`noun` and `mean` stand there only where no benchmark of this package has that name."""
    entry = asdict(data)
    if data.kind in BY_NAME or data.kind == RATINGS:
        del entry["noun"], entry["mean"]
    return entry


def _write_comparison(comparison: Comparison) -> dict[str, Any]:
    """`metric` stands there only where the difference is not of accuracies."""
    entry = {"data": comparison.data} | asdict(comparison)
    if comparison.metric is None:
        del entry["metric"]
    return entry


def _write_curve(curve: Curve) -> dict[str, Any]:
    entry = {"data": curve.data, "model": curve.model} | asdict(curve)
    if curve.n is None:
        del entry["n"]
    return entry
