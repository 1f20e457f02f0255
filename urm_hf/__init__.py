"""
Uncertainty-aware reward models for transformers and TRL.

Importing this package registers `URMConfig`, `URMForRewardModeling` and `URMEnsemble` with the Auto classes, so that
`AutoModel.from_pretrained` needs no `trust_remote_code` for them.
"""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from urm_hf.moved import find_moved_modules

if TYPE_CHECKING:  # what `__getattr__` gives, for type checkers and editors
    from urm_hf.bestofn.answers import best_of_n
    from urm_hf.checkpoints.adapters import load_adapter
    from urm_hf.checkpoints.merging import merge_checkpoints
    from urm_hf.hub.publish import push
    from urm_hf.hub.verify import verify
    from urm_hf.modeling import (
        URMConfig,
        URMEnsemble,
        URMEnsembleConfig,
        URMEnsembleOutput,
        URMForRewardModeling,
        URMOutput,
    )
    from urm_hf.rl.preference_pairs import build_preference_pairs
    from urm_hf.rl.rewards import (
        AttributeRewards,
        LowerConfidenceBoundReward,
        UncertaintyFilteredReward,
        UncertaintyPenalizedReward,
    )
    from urm_hf.scores import RewardScore
    from urm_hf.scoring.remote import RemoteScorer
    from urm_hf.scoring.scorer import RewardScorer
    from urm_hf.uncertainty.filtering import (
        combine_pair_uncertainty,
        compute_pair_uncertainty,
        filter_pairs,
        filter_scores,
        pair_values,
    )
    from urm_hf.uncertainty.margins import compute_joint_probability, margin_epistemic_std
    from urm_hf.uncertainty.measures import (
        MEASURES,
        compare,
        compute_preference_probability,
        compute_uncertainty,
        margin_gap,
        measure,
        preference_probability,
        reward_interval,
    )
    from urm_hf.uncertainty.ood import ood_report
    from urm_hf.uncertainty.thresholds import fit_threshold

__version__ = "0.1.0"

__all__ = [  # in full: type checkers read it
    "AttributeRewards",
    "LowerConfidenceBoundReward",
    "MEASURES",
    "RemoteScorer",
    "RewardScore",
    "RewardScorer",
    "URMConfig",
    "URMEnsemble",
    "URMEnsembleConfig",
    "URMEnsembleOutput",
    "URMForRewardModeling",
    "URMOutput",
    "UncertaintyFilteredReward",
    "UncertaintyPenalizedReward",
    "best_of_n",
    "build_preference_pairs",
    "combine_pair_uncertainty",
    "compute_joint_probability",
    "compute_pair_uncertainty",
    "compute_preference_probability",
    "compute_uncertainty",
    "filter_pairs",
    "filter_scores",
    "fit_threshold",
    "load_adapter",
    "margin_epistemic_std",
    "margin_gap",
    "merge_checkpoints",
    "ood_report",
    "preference_probability",
    "push",
    "reward_interval",
    "verify",
]
_HOMES = {
    "URMConfig": "urm_hf.modeling",
    "URMForRewardModeling": "urm_hf.modeling",
    "URMOutput": "urm_hf.modeling",
    "URMEnsemble": "urm_hf.modeling",
    "URMEnsembleConfig": "urm_hf.modeling",
    "URMEnsembleOutput": "urm_hf.modeling",
    "RewardScore": "urm_hf.scores",
    "RemoteScorer": "urm_hf.scoring.remote",
    "RewardScorer": "urm_hf.scoring.scorer",
    "MEASURES": "urm_hf.uncertainty.measures",
    "compute_uncertainty": "urm_hf.uncertainty.measures",
    "compute_preference_probability": "urm_hf.uncertainty.measures",
    "margin_gap": "urm_hf.uncertainty.measures",
    "preference_probability": "urm_hf.uncertainty.measures",
    "reward_interval": "urm_hf.uncertainty.measures",
    "compute_joint_probability": "urm_hf.uncertainty.margins",
    "margin_epistemic_std": "urm_hf.uncertainty.margins",
    "filter_pairs": "urm_hf.uncertainty.filtering",
    "filter_scores": "urm_hf.uncertainty.filtering",
    "combine_pair_uncertainty": "urm_hf.uncertainty.filtering",
    "compute_pair_uncertainty": "urm_hf.uncertainty.filtering",
    "fit_threshold": "urm_hf.uncertainty.thresholds",
    "ood_report": "urm_hf.uncertainty.ood",
    "build_preference_pairs": "urm_hf.rl.preference_pairs",
    "AttributeRewards": "urm_hf.rl.rewards",
    "LowerConfidenceBoundReward": "urm_hf.rl.rewards",
    "UncertaintyFilteredReward": "urm_hf.rl.rewards",
    "UncertaintyPenalizedReward": "urm_hf.rl.rewards",
    "best_of_n": "urm_hf.bestofn.answers",
    "load_adapter": "urm_hf.checkpoints.adapters",
    "merge_checkpoints": "urm_hf.checkpoints.merging",
    "push": "urm_hf.hub.publish",
    "verify": "urm_hf.hub.verify",
}
_FORMER = {
    "measure": "urm_hf.uncertainty.measures",
    "compare": "urm_hf.uncertainty.measures",
    "pair_values": "urm_hf.uncertainty.filtering",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or _FORMER.get(name)
    if home is None:
        raise AttributeError(f"module 'urm_hf' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]


def _is_our_command() -> bool:
    """
    Whether this process is the console script that was installed beside this Python, not a program of that name, or
    `python -m urm_hf`.
    """
    words = sys.orig_argv
    if "-m" in words and words[words.index("-m") + 1 :][:1] == [__name__] and sys.argv[:1] == ["-m"]:
        return True
    program = getattr(sys.modules.get("__main__"), "__file__", None)
    scripts = Path(sys.executable).parent
    return program is not None and Path(program) in (scripts / "urm", scripts / "urm.exe" / "__main__.py")


find_moved_modules()
# our command prints its help without loading torch; its commands import what they need, and register then
if not _is_our_command():
    importlib.import_module("urm_hf.modeling")
