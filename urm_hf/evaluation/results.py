"""Look-ups in what `urm evaluate` measured: the content of results.json, which docs/evaluation.md defines."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from urm_hf.evaluation.measured import Measured

SCHEMA, VERSION = "urm-hf evaluation", 1
LISTS = ("models", "data", "metrics", "comparisons", "curves")
CHANCE = "random"  # the baseline that guesses


class ResultsView:
    """
    The models, data sets, metrics, comparisons and curves of one evaluation, by name.

    Args:
        content: of `results.json`.

    Raises:
        ValueError: it is not what `urm evaluate` wrote, or of a newer version.
    """

    def __init__(self, content: dict[str, Any]):
        check(content)
        self.content = content
        kinds = {model["name"]: model["kind"] for model in content["models"]}
        self.models = [name for name, kind in kinds.items() if kind != "baseline"]
        self.baselines = [name for name, kind in kinds.items() if kind == "baseline"]
        self.data: list[dict[str, Any]] = content["data"]
        self._metrics = {
            (entry["data"], entry["model"], *_place(entry)): _measured(entry)
            for entry in content["metrics"]
            if entry["value"] is not None
        }

    @property
    def preferences(self) -> list[dict[str, Any]]:
        return [data for data in self.data if data["kind"] != "ratings"]

    @property
    def ratings(self) -> list[dict[str, Any]]:
        return [data for data in self.data if data["kind"] == "ratings"]

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
        return self._metrics.get((data, model, metric, level, group, variant))

    def of(self, data: str, model: str) -> Iterator[Measured]:
        """All metrics of a model on a data set, in the file's order."""
        return (found for key, found in self._metrics.items() if key[:2] == (data, model))

    def whosesoever(
        self, data: str, metric: str, level: str | None = None, group: str | None = None
    ) -> Measured | None:
        """A metric that belongs to the data, such as a noise ceiling, whichever model it is listed under."""
        wanted = (metric, level, group, None)
        return next((found for key, found in self._metrics.items() if key[0] == data and key[2:] == wanted), None)

    def variants(self, data: str, model: str, metric: str) -> list[str]:
        """The flavours in which a model's metric was measured."""
        found = (entry for entry in self.of(data, model) if entry.metric == metric and entry.variant is not None)
        return list(dict.fromkeys(str(entry.variant) for entry in found))

    def groups(self, data: str, metric: str) -> dict[str, list[str]]:
        """The levels at which a metric was measured for any model, each with its groups."""
        levels: dict[str, list[str]] = {}
        for name, _, found, level, group, _ in self._metrics:
            if (name, found) == (data, metric) and level and group and group not in levels.setdefault(level, []):
                levels[level].append(group)
        return levels

    def ranked(self, data: str, metric: str = "accuracy") -> list[tuple[str, Measured]]:
        """The models for which a metric of all rows is known, the highest first."""
        found = [(model, self.get(data, model, metric)) for model in self.models]
        return sorted([(m, value) for m, value in found if value], key=lambda pair: -pair[1].value)

    def chance(self, data: str) -> float | None:
        """The expected accuracy of random rewards."""
        found = self.get(data, CHANCE, "accuracy")
        return found.value if found else None

    def comparisons(self, data: str) -> list[dict[str, Any]]:
        return [found for found in self.content["comparisons"] if found["data"] == data]

    def comparison(self, data: str, model_a: str, model_b: str) -> dict[str, Any] | None:
        """The paired comparison of two models, turned so that its difference is that of a minus b."""
        for found in self.comparisons(data):
            if (found["model_a"], found["model_b"]) == (model_a, model_b):
                return found
            if (found["model_a"], found["model_b"]) == (model_b, model_a):
                return turned(found)
        return None

    def curves(self, data: str, model: str, curve: str) -> dict[str, dict[str, Any]]:
        """The curves of one kind, by variant."""
        return {
            found["variant"]: found
            for found in self.content["curves"]
            if (found["data"], found["model"], found["curve"]) == (data, model, curve)
        }


def is_evaluation(content: dict[str, Any]) -> bool:
    return content.get("schema") == SCHEMA


def check(content: dict[str, Any]):
    if not is_evaluation(content):
        raise ValueError(f"these are not results of `urm evaluate`: `schema` is {content.get('schema')!r}.")
    if content.get("version") != VERSION:
        told = f"results of version {content.get('version')!r}; this urm-hf reads version {VERSION}"
        raise ValueError(f"{told}. Evaluate again, or update urm-hf.")
    missing = [name for name in LISTS if not isinstance(content.get(name), list)]
    if missing:
        raise ValueError(f"the results of `urm evaluate` are damaged: they have no list {', '.join(missing)}.")


def turned(comparison: dict[str, Any]) -> dict[str, Any]:
    """The same comparison with a and b exchanged."""
    interval = comparison["interval"]
    return comparison | {
        "model_a": comparison["model_b"],
        "model_b": comparison["model_a"],
        "difference": -comparison["difference"],
        "interval": interval and [-interval[1], -interval[0]],
        "only_a": comparison["only_b"],
        "only_b": comparison["only_a"],
    }


def _place(entry: dict[str, Any]) -> tuple[str, str | None, str | None, str | None]:
    return entry["metric"], entry.get("level"), entry.get("group"), entry.get("variant")


def _measured(entry: dict[str, Any]) -> Measured:
    fields = {name: value for name, value in entry.items() if name not in ("data", "model")}
    found = Measured(**fields)
    known = found.interval is not None and None not in found.interval
    return replace(found, interval=(found.interval[0], found.interval[1]) if known and found.interval else None)
