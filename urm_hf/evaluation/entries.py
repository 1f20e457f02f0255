"""The entries of an evaluation's results: models, data sets, numbers, comparisons, curves, and what is absent."""

from dataclasses import dataclass, field, replace

from urm_hf.evaluation.measured import Measured

BASELINE, RATINGS = "baseline", "ratings"  # a kind of model, and one of data


@dataclass(frozen=True)
class ModelEntry:
    """
    A model, or a baseline, of which only name and kind are known.

    Args:
        name (`str`): as tables call it.
        kind (`str`): "urm", "ensemble", "scalar", "scores", "judge" or "baseline".
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
        notes (`dict[str, list[str]]`, *optional*): of a model, by its name, what its numbers must not be taken for.
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
    notes: dict[str, list[str]] = field(default_factory=dict)


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
