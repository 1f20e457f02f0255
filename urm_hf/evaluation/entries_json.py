"""The entries of `results.json`, read one by one with what is wrong told by its place, and written."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from urm_hf.evaluation.benchmarks import BY_NAME
from urm_hf.evaluation.entries import BASELINE, RATINGS, Absence, Comparison, Curve, DataEntry, Metric, ModelEntry
from urm_hf.evaluation.measured import Measured

Entry = TypeVar("Entry")


def read_list(content: Mapping[str, Any], name: str, read: Callable[[Any, str], Entry]) -> list[Entry]:
    """The entries of a list, each read with its place for errors."""
    entries = content.get(name) or []
    return [read(entry, f"{name}[{number}]") for number, entry in enumerate(entries)]


def read_entry(entry_type: type[Entry], entry: Any, where: str, **known: Any) -> Entry:
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


def read_model(entry: Any, where: str) -> ModelEntry:
    return read_entry(ModelEntry, entry, where)


def read_absence(entry: Any, where: str) -> Absence:
    return read_entry(Absence, entry, where)


def read_data(entry: Any, where: str) -> DataEntry:
    """What is counted, a benchmark of this package says by its name; any other said it in the file."""
    data = read_entry(DataEntry, entry, where)
    if not isinstance(data.notes, Mapping):
        raise ValueError(f"the results are damaged: {where} has the `notes` {data.notes!r:.60}. Evaluate again.")
    if data.kind in BY_NAME:
        return replace(data, noun=BY_NAME[data.kind].noun, mean=BY_NAME[data.kind].mean)
    return replace(data, noun=data.noun or ("rating" if data.kind == RATINGS else "pair"))


def read_metric(entry: Any, where: str) -> Metric | None:
    """None where the value is null: it was not measured."""
    if isinstance(entry, Mapping) and entry.get("value", 0) is None:
        return None
    place = read_entry(_Place, entry, where)
    if not _is_number(entry.get("value")):
        raise ValueError(f"the results are damaged: {where} has the `value` {entry.get('value')!r}. Evaluate again.")
    measured = read_entry(Measured, entry, where, interval=_read_interval(entry, where))
    return Metric(place.data, place.model, measured)


@dataclass(frozen=True)
class _Place:
    data: str
    model: str


def read_comparison(entry: Any, where: str) -> Comparison:
    interval = _read_interval(entry, where) if isinstance(entry, Mapping) else None
    return read_entry(Comparison, entry, where, interval=interval)


def read_curve(entry: Any, where: str) -> Curve:
    """With lists of one length; bounds may be missing."""
    lists = {name: entry.get(name) for name in ("x", "y", "low", "high")} if isinstance(entry, Mapping) else {}
    unknown = [None] * len(lists.get("x") or [])
    bounds = {name: lists.get(name) or unknown for name in ("low", "high")}
    curve = read_entry(Curve, entry, where, **bounds)
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


def write_model(model: ModelEntry) -> dict[str, Any]:
    return {"name": model.name, "kind": model.kind} if model.kind == BASELINE else asdict(model)


def write_data(data: DataEntry) -> dict[str, Any]:
    """`noun` and `mean` stand there only where no benchmark of this package has that name, `notes` if there are."""
    entry = asdict(data)
    if not data.notes:
        del entry["notes"]
    if data.kind in BY_NAME or data.kind == RATINGS:
        del entry["noun"], entry["mean"]
    return entry


def write_comparison(comparison: Comparison) -> dict[str, Any]:
    """`metric` stands there only where the difference is not of accuracies."""
    entry = {"data": comparison.data} | asdict(comparison)
    if comparison.metric is None:
        del entry["metric"]
    return entry


def write_curve(curve: Curve) -> dict[str, Any]:
    entry = {"data": curve.data, "model": curve.model} | asdict(curve)
    if curve.n is None:
        del entry["n"]
    return entry
