"""The rewards of `urm_hf.rl` by their public name."""

from urm_hf.rl.rewards import *  # noqa: F403
from urm_hf.rl.rewards import __all__ as __all__
