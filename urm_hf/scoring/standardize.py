"""One scale for the rewards of an ensemble's members, measured on reference conversations."""

import copy
from collections.abc import Iterable
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from urm_hf.modeling import URMEnsemble
from urm_hf.scoring.scorer import RewardScorer


def standardize_rewards(
    ensemble: URMEnsemble,
    conversations: Iterable[Any],
    tokenizer: PreTrainedTokenizerBase | None = None,
    progress: bool = False,
):
    """
    Scores reference conversations with every member, and makes the ensemble's rewards (r - mean) / std of theirs.

    Args:
        ensemble (`URMEnsemble`): its config gets each member's mean and std; save it to keep them.
        conversations (`Iterable`): two or more, in any form that [`RewardScorer`] takes.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): by default the first member's.
        progress (`bool`, *optional*, defaults to `False`): whether to show a progress bar.

    Raises:
        ValueError: fewer than two conversations, or a member gives all of them the same reward.
    """
    # raw rewards, also of an ensemble that was standardized before; others may be scoring with it meanwhile
    raw = copy.copy(ensemble)
    raw.config = copy.deepcopy(ensemble.config)
    raw.config.reward_means = raw.config.reward_stds = None
    scores = RewardScorer(raw, tokenizer).score(conversations, progress=progress)
    ensemble.standardize(torch.tensor([score.member_rewards for score in scores]).T)  # (M, N)
