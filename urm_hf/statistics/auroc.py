"""
The area under the ROC curve: P(a positive has a higher value than a negative one), ties half; 0.5 is chance.

Both functions are the Mann-Whitney statistic. Values are ranked; where samples are drawn from rows that are sorted
once, how often each value occurs says the same without sorting every sample anew.
"""

import numpy as np
from scipy.stats import rankdata


def compute_auroc(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """
    Args:
        negatives, positives (`np.ndarray`): values (..., N) and (..., M), at least one each.

    Returns:
        (...) of the last axis.
    """
    n, m = negatives.shape[-1], positives.shape[-1]
    ranks = rankdata(np.concatenate([negatives, positives], axis=-1), axis=-1)
    return (ranks[..., n:].sum(-1) - m * (m + 1) / 2) / (n * m)


def compute_auroc_of_counts(negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """
    Args:
        negatives, positives (`np.ndarray`): (..., G) how many there are of each of G values, the lowest first.

    Returns:
        (...); NaN where there are no negatives, or no positives.
    """
    below = negatives.cumsum(-1) - negatives
    wins = (positives * (below + negatives / 2)).sum(-1)
    with np.errstate(invalid="ignore"):
        return wins / (positives.sum(-1) * negatives.sum(-1))
