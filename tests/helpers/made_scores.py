"""Scores as models would give them, from numbers."""

import numpy as np

from urm_hf.evaluation.pairs.scored_pairs import ScoredPairs
from urm_hf.scores import RewardScore

PARTS = ("attribute_variance", "covariance_norm", "epistemic_variance", "reward_gap")


def scalar_pairs(margins, prompts=None) -> ScoredPairs:
    """Of a model that gives rewards only; the rejected answers have the reward 1.5."""
    prompts = [f"prompt {i}" for i in range(len(margins))] if prompts is None else list(prompts)
    chosen = [RewardScore(reward=1.5 + float(margin)) for margin in margins]
    return ScoredPairs(chosen, [RewardScore(reward=1.5)] * len(prompts), prompts)


def urm_pairs(margins, stds_chosen, stds_rejected, prompts=None) -> ScoredPairs:
    """Of a model that gives standard deviations too."""
    plain = scalar_pairs(margins, prompts)
    sides = [
        [RewardScore(reward=score.reward, reward_std=float(std)) for score, std in zip(side, stds)]
        for side, stds in ((plain.chosen, stds_chosen), (plain.rejected, stds_rejected))
    ]
    for side in sides:
        for score in side:
            score["attribute_variance"] = 4 * score.reward_std**2
            score["covariance_norm"] = 3 * score.reward_std**2
    return ScoredPairs(*sides, plain.prompts)


def ensemble_score(rng) -> RewardScore:
    """Of three members, at random."""
    members = rng.normal(size=3)
    return RewardScore(
        reward=members.mean(),
        reward_std=rng.uniform(0.5, 1),
        member_rewards=members.tolist(),
        attribute_gaps={"fluency": rng.random(), "depth": rng.random()},
        **{part: rng.random() for part in PARTS},
    )


def ensemble_pairs(count: int, seed: int = 0) -> ScoredPairs:
    rng = np.random.default_rng(seed)
    sides = [[ensemble_score(rng) for _ in range(count)] for _ in range(2)]
    return ScoredPairs(*sides, [f"prompt {i}" for i in range(count)])


def table(found) -> dict:
    """What was measured, by metric, variant and group."""
    return {(one.metric, one.variant, one.group): one for one in found.metrics}
