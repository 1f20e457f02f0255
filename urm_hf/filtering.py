"""Filters by uncertainty, `urm_hf.filtering`, by their public name."""

from urm_hf.uncertainty.filtering import (
    Filtered,
    combine_pair_uncertainty,
    filter_pairs,
    filter_scores,
    filter_values,
    fit_threshold,
    pair_values,
)
from urm_hf.uncertainty.thresholds import FittedThreshold

__all__ = [
    "Filtered",
    "FittedThreshold",
    "combine_pair_uncertainty",
    "filter_pairs",
    "filter_scores",
    "filter_values",
    "fit_threshold",
    "pair_values",
]
