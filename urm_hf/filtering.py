"""Filters by uncertainty, `urm_hf.filtering`, by their public name."""

from urm_hf.uncertainty.filtering import (
    Filtered,
    filter_pairs,
    filter_scores,
    filter_values,
    fit_threshold,
    pair_values,
)

__all__ = ["Filtered", "filter_pairs", "filter_scores", "filter_values", "fit_threshold", "pair_values"]
