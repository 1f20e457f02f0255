"""Filters by uncertainty, `urm_hf.filtering`, by their public name."""

from urm_hf.uncertainty.filtering import *  # noqa: F403
from urm_hf.uncertainty.filtering import __all__ as __all__
