"""Measures of uncertainty, preference under uncertainty, filters with fitted thresholds, unfamiliar text."""

from urm_hf.uncertainty.measure_catalogue import MEASURES, Measure
from urm_hf.uncertainty.measures import (
    available,
    compare,
    compute_preference_probability,
    compute_uncertainty,
    margin_gap,
    measure,
    preference_probability,
    reward_interval,
)

__all__ = [
    "MEASURES",
    "Measure",
    "available",
    "compare",
    "compute_preference_probability",
    "compute_uncertainty",
    "margin_gap",
    "measure",
    "preference_probability",
    "reward_interval",
]
