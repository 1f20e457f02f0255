"""What two scores say, in sentences. The two answers are called A and B."""

from collections.abc import Sequence

import numpy as np

from urm_hf.app.familiar import UNFAMILIAR, FamiliarSet
from urm_hf.scores import RewardScore
from urm_hf.uncertainty.measures import compute_preference_probability

NAMES = ("A", "B")
MEANINGS = {
    "epistemic": "doubt about ratings (epistemic)",
    "attribute_gap": "largest disagreement about a rating (attribute_gap)",
    "attribute_variance": "predicted spread (attribute_variance)",
}
Pair = Sequence[RewardScore]  # of A and of B


def compute_probability(scores: Pair) -> float | None:
    """P(A is better than B); None where the model gives no spread."""
    if any(score.get("reward_std") is None for score in scores):
        return None
    return float(compute_preference_probability(scores[:1], scores[1:])[0])


def describe_preference(scores: Pair) -> str:
    """Which answer is better, and how sure the model is of that."""
    rewards = [score["reward"] for score in scores]
    if rewards[0] == rewards[1]:
        return "Both answers get the same reward."
    better = NAMES[int(rewards[1] > rewards[0])]
    probability = compute_probability(scores)
    if probability is None:
        return f"Answer {better} gets the higher reward. This model does not say how sure it is."
    sure = max(probability, 1 - probability)
    if sure < 0.6:
        return "The model cannot tell which answer is better."
    if sure < 0.75:
        return f"Answer {better} is perhaps better."
    if sure < 0.95:
        return f"Answer {better} is probably better."
    return f"Answer {better} is better, and the model is sure of it."


def describe_members(scores: Pair) -> list[str]:
    """What an ensemble agrees and disagrees about; nothing of a single model."""
    if any(score.get("member_rewards") is None for score in scores):
        if all(score.get("epistemic_variance") is not None for score in scores):
            return ["This is a single model; what it does not know is told by its posterior."]
        return ["This is a single model: load an ensemble to see what is not known."]
    rewards = np.array([score["member_rewards"] for score in scores])  # (2, M)
    prefer_a, prefer_b = (rewards[0] > rewards[1]).sum(), (rewards[1] > rewards[0]).sum()
    members = rewards.shape[1]
    name, most = max(zip(NAMES, (prefer_a, prefer_b), strict=True), key=lambda side: side[1])
    if most == members:
        told = [f"All {members} members prefer answer {name}."]
    else:
        told = [f"The members disagree: {most} of {members} prefer answer {name}."]
    return told + [_describe_gap(name, score) for name, score in zip(NAMES, scores, strict=True)]


def _describe_gap(name: str, score: RewardScore) -> str:
    gaps, stds = score["attribute_gaps"], score.get("attribute_stds") or {}
    # attributes may have different scales: a gap counts by the spread that is predicted for raters
    attribute = max(gaps, key=lambda key: gaps[key] / stds.get(key, 1.0))
    told = f"On answer {name} they differ most about {attribute}: their means are up to {gaps[attribute]:.2f} apart"
    if attribute not in stds:
        return f"{told}."
    return f"{told}, where the predicted spread of a rating is {stds[attribute]:.2f}."


def describe_familiarity(scores: Pair, familiar: FamiliarSet | None) -> list[str]:
    """Whether each answer looks unlike familiar conversations."""
    if familiar is None:
        return ["Whether they look unfamiliar is not known: the page was started without familiar conversations."]
    told = []
    for name, share in zip(NAMES, familiar.compute_share_below(scores), strict=True):
        measured = (
            f"its {MEANINGS[familiar.measure]} is above that of {share:.0%} of {len(familiar.values)} familiar ones"
        )
        if share >= UNFAMILIAR:
            told.append(f"Answer {name} looks unfamiliar, so do not rely on its reward: {measured}.")
        else:
            told.append(f"Answer {name} looks familiar: {measured}.")
    if familiar.measure == "attribute_variance":
        told.append("A single model's spread is about raters, and may stay small on unfamiliar text.")
    return told
