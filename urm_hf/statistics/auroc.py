"""
The area under the ROC curve: P(a positive has a higher value than a negative one), ties half; 0.5 is chance.

Both functions are the Mann-Whitney statistic. Values are ranked; where samples are drawn from rows that are sorted
once, how often each value occurs says the same without sorting every sample anew.
"""

import numpy as np
from scipy.stats import rankdata


def compute_auroc(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """
    The AUROC of values.

    Args:
        negatives (`np.ndarray` of shape `(..., N)`): values, at least one.
        positives (`np.ndarray` of shape `(..., M)`): values, at least one.

    Returns:
        `np.ndarray` of shape `(...)`: above 0.5 where positives are higher.
    """
    n, m = negatives.shape[-1], positives.shape[-1]
    ranks = rankdata(np.concatenate([negatives, positives], axis=-1), axis=-1)
    # the least sum of ranks that M values can have is M (M + 1) / 2; each negative below one of them adds 1
    return (ranks[..., n:].sum(-1) - m * (m + 1) / 2) / (n * m)


def compute_auroc_of_counts(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """
    The AUROC of values that are given by how often each occurs.

    Args:
        negatives (`np.ndarray` of shape `(..., G)`): how many there are of each of G values, the lowest first.
        positives (`np.ndarray` of shape `(..., G)`): the same of positives.

    Returns:
        `np.ndarray` of shape `(...)`: above 0.5 where positives are higher; NaN where there are none of either.
    """
    below = negatives.cumsum(-1) - negatives  # (..., G) negatives with a lower value; those with the same count half
    wins = (positives * (below + negatives / 2)).sum(-1)
    with np.errstate(invalid="ignore"):
        return wins / (positives.sum(-1) * negatives.sum(-1))
