"""How well one number tells unknown conversations from known ones: AUROC, FPR at 95 % recall."""

from dataclasses import dataclass

import numpy as np

from urm_hf.statistics.auroc import compute_auroc as auroc

__all__ = ["Detector", "auroc", "fpr_at_95"]


@dataclass(frozen=True)
class Detector:
    """
    How well one number tells N_in known from N_out unknown conversations.

    Args:
        name (`str`): the measure, or the trivial statistic with the direction in which it is taken.
        trivial (`bool`): whether it knows nothing of uncertainty.
        auroc (`float`): P(an unknown conversation has a higher value than a known one), ties half; 0.5 is chance, and
            below it the measure takes the unknown for known.
        auroc_interval (`tuple[float, float]`): its bootstrap interval.
        fpr95 (`float`): share of known conversations that are flagged at the highest threshold that flags 95 % of the
            unknown; lower is better.
        fpr95_interval (`tuple[float, float]`): its bootstrap interval.
        gain (`float`): AUROC less that of the best trivial detector.
        gain_interval (`tuple[float, float]`): its bootstrap interval, from resamples of both detectors at once.
    """

    name: str
    trivial: bool
    auroc: float
    auroc_interval: tuple[float, float]
    fpr95: float
    fpr95_interval: tuple[float, float]
    gain: float
    gain_interval: tuple[float, float]

    @property
    def beats_trivial(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return not self.trivial and self.gain_interval[0] > 0


def fpr_at_95(known: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """
    The false positive rate at 95 % recall: the share of known values at or above the highest threshold that 95 % of
    the unknown reach.

    Args:
        known (`np.ndarray` of shape `(..., N_in)`): values of known conversations; higher = taken for unknown.
        unknown (`np.ndarray` of shape `(..., N_out)`): values of unknown ones.

    Returns:
        `np.ndarray` of shape `(...)`; lower is better.
    """
    spare = int(round(0.05 * unknown.shape[-1], 6))  # unknown values that may stay below
    threshold = np.sort(unknown, axis=-1)[..., spare, None]
    return (known >= threshold).mean(-1)
