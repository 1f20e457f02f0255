"""What one step of an evaluation found: numbers, curves, and what could not be measured."""

from dataclasses import dataclass, field
from typing import Any

from urm_hf.evaluation.measured import Measured


@dataclass(frozen=True)
class Found:
    """
    Args:
        metrics: each with a value; none is NaN.
        curves: entries of `curves` in `results.json`, without data set and model.
        absent: why a metric has no value, by its name and flavour: {"auroc_errors (reward_std)": "no pair is wrong"}.
    """

    metrics: list[Measured] = field(default_factory=list)
    curves: list[dict[str, Any]] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)

    def __add__(self, other: "Found") -> "Found":
        return Found(self.metrics + other.metrics, self.curves + other.curves, self.absent | other.absent)
