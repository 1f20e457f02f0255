"""
How good the best of n is, exactly: over all subsets of n of the N candidates at hand, not over a few draws of them.

Candidates that come independently from one policy make this the unbiased estimate of least variance for each n <= N
(the estimator of WebGPT, Nakano et al., 2021, arXiv:2112.09332). The winner of a subset is its candidate with the
highest score; candidates that share it win in equal parts, which is the expectation over drawing lots.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import rankdata


def sizes_up_to(candidates: int) -> list[int]:
    """1, 2, 4, ... and `candidates` itself."""
    return [2**k for k in range((candidates - 1).bit_length())] + [candidates]


def kl_bound(n: ArrayLike) -> np.ndarray:
    """
    log n - (n - 1) / n, in nats: what the KL divergence of best-of-n from its policy is at most.

    Args:
        n (`ArrayLike`): sizes, 1 or more.

    It is reached where no answer comes twice and no two share a score. Where they do, the divergence is smaller
    (Beirami et al., 2024, arXiv:2401.01879): that of a policy that always says the same is 0 for every n.
    """
    n = np.asarray(n, dtype=np.float64)
    return np.log(n) - (n - 1) / n


def winning_probabilities(scores: ArrayLike, sizes: Sequence[int]) -> np.ndarray:
    """
    How often each of N candidates wins over all subsets of n of them, for S sizes n, (S, N). Rows sum to 1.

    A subset is won by a rank or a better one unless all of its n candidates are among the worse ones.

    Args:
        scores (`ArrayLike` of shape `(N,)`): higher wins; infinite ones are fine.
        sizes (`list[int]`): S of them, each 1 to N.

    Returns:
        `np.ndarray` of shape `(S, N)`.

    Raises:
        ValueError: a score is NaN, or a size is not between 1 and N.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 1 or np.isnan(scores).any():
        raise ValueError(f"`scores` must be of shape (N,) without NaN, got {scores}.")
    total = len(scores)
    better = rankdata(-scores, "min").astype(int) - 1  # (N,) candidates with a higher score
    alike = rankdata(-scores, "max").astype(int) - better  # those of the same score, itself among them
    within = share_within(total, sizes)  # (S, total + 1)
    # A subset lies within those of this score or below, but not within those below: its best has this score.
    return (within[:, total - better] - within[:, total - better - alike]) / alike


def expected_best(values: ArrayLike, scores: ArrayLike, sizes: Sequence[int]) -> np.ndarray:
    """
    Mean value of the candidate with the highest score, over all subsets of each size, (S,).

    Args:
        values (`ArrayLike` of shape `(N,)`): what each candidate is worth.
        scores (`ArrayLike` of shape `(N,)`): what it is chosen by; higher wins.
        sizes (`list[int]`): S of them, each 1 to N.

    Returns:
        `np.ndarray` of shape `(S,)`.

    Raises:
        ValueError: lengths differ, a value is not finite, or see [`winning_probabilities`].
    """
    values = np.asarray(values, dtype=np.float64)
    if values.shape != np.shape(scores) or not np.isfinite(values).all():
        raise ValueError(f"`values` must be finite and as many as `scores`, {np.shape(scores)}; got {values}.")
    return winning_probabilities(scores, sizes) @ values


def share_within(total: int, sizes: Sequence[int]) -> np.ndarray:
    """
    C(k, n) / C(total, n): the share of subsets of size n that lie within k given candidates, for k = 0 ... total,
    (S, total + 1).

    As products of C(k - 1, n) / C(k, n) = (k - n) / k, which stay in 0..1 for any number of candidates.

    Args:
        total (`int`): candidates.
        sizes (`list[int]`): S sizes n of subsets, each 1 to `total`.

    Returns:
        `np.ndarray` of shape `(S, total + 1)`.

    Raises:
        ValueError: a size is not between 1 and `total`.
    """
    n = np.asarray(sizes)[:, None]
    if not len(n) or not ((n >= 1) & (n <= total)).all():
        raise ValueError(f"sizes must lie between 1 and the number of candidates, {total}; got {list(sizes)}.")
    k = np.arange(total, 0, -1)
    # By products, not factorials, which overflow: C(1100, 550) is beyond all floats.
    falling = np.cumprod(np.maximum(k - n, 0) / k, axis=1)  # at k - 1
    return np.concatenate([falling[:, ::-1], np.ones((len(n), 1))], axis=1)
