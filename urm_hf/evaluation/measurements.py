"""What one step of an evaluation measured: numbers, curves, and what could not be measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from urm_hf.evaluation.entries import Curve
from urm_hf.evaluation.measured import Measured


@dataclass(frozen=True)
class Measurements:
    """
    Steps gather lists of their own and give them away here: what was measured does not change any more.

    Args:
        metrics (`Sequence[Measured]`, *optional*): each with a value; none is NaN.
        curves (`Sequence[Curve]`, *optional*): without data set and model, which `evaluate` adds.
        absent (`Mapping[str, str]`, *optional*): why a metric has no value, by its name and flavour:
            {"auroc_errors (reward_std)": "no pair is wrong"}.
    """

    metrics: Sequence[Measured] = field(default_factory=list)
    curves: Sequence[Curve] = field(default_factory=list)
    absent: Mapping[str, str] = field(default_factory=dict)

    def without(self, names: Sequence[str], reason: str) -> "Measurements":
        """
        What is left where metrics mean nothing.

        Args:
            names (`Sequence[str]`): of metrics.
            reason (`str`): why they have no value.
        """
        left = [measured for measured in self.metrics if measured.metric not in names]
        return Measurements(left, self.curves, {**self.absent, **dict.fromkeys(names, reason)})

    def __add__(self, other: "Measurements") -> "Measurements":
        return Measurements(
            [*self.metrics, *other.metrics], [*self.curves, *other.curves], {**self.absent, **other.absent}
        )
