"""
Uncertainty-aware reward models for transformers and TRL.

Importing this package registers `URMConfig`, `URMForRewardModeling` and `URMEnsemble` with the Auto classes, so that
`AutoModel.from_pretrained` needs no `trust_remote_code` for them.
"""

import importlib
import sys
from pathlib import Path

__version__ = "0.1.0"

_HOMES = {
    "URMConfig": "urm_hf.modeling",
    "URMForRewardModeling": "urm_hf.modeling",
    "URMOutput": "urm_hf.modeling",
    "URMEnsemble": "urm_hf.modeling",
    "URMEnsembleConfig": "urm_hf.modeling",
    "URMEnsembleOutput": "urm_hf.modeling",
    "RewardScore": "urm_hf.scoring",
    "RewardScorer": "urm_hf.scoring",
    "MEASURES": "urm_hf.uncertainty",
    "measure": "urm_hf.uncertainty",
    "compare": "urm_hf.uncertainty",
    "margin_gap": "urm_hf.uncertainty",
    "preference_probability": "urm_hf.uncertainty",
    "reward_interval": "urm_hf.uncertainty",
    "filter_pairs": "urm_hf.filtering",
    "filter_scores": "urm_hf.filtering",
    "fit_threshold": "urm_hf.filtering",
    "pair_values": "urm_hf.filtering",
    "ood_report": "urm_hf.ood",
    "build_preference_pairs": "urm_hf.preference_pairs",
    "best_of_n": "urm_hf.bestofn.answers",
    "merge_checkpoints": "urm_hf.merging",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'urm_hf' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]


# The console script prints its help without loading torch; its commands import what they need, and register then.
if Path(sys.argv[0]).name.lower() not in ("urm", "urm.exe"):  # not the stem: a script `urm.py` is the user's own
    importlib.import_module("urm_hf.modeling")
