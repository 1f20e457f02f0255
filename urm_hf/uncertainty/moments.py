"""
Sums over rated rows that a posterior is computed from: of any batches in any order, and of parts that are added up.

Shapes: N rows, n attributes, R ratings of each, H hidden size.
"""

import numpy as np


class Moments:
    """
    Sums over rows of hidden states and ratings. `a + b` are those of both parts.

    A row counts as often as it has ratings of an attribute, on average over attributes, times its weight; rows without
    any are left out. Sums are float64 and of h minus the first batch's mean, so that a large mean costs no digits.

    Args:
        hidden_size (`int`): H.
        n (`int`): attributes.
    """

    def __init__(self, hidden_size: int, n: int):
        self.origin: np.ndarray | None = None  # (H,)
        self.count = 0.0  # sum of the rows' weights w, times their ratings
        self.hidden = np.zeros(hidden_size)  # sum of w h
        self.squares = np.zeros((hidden_size, hidden_size))  # sum of w h h'
        self.ratings = np.zeros(n)  # number of ratings
        self.mass = np.zeros(n)  # sum of w over the ratings of k
        self.hidden_of = np.zeros((n, hidden_size))  # sum of w h over the ratings of k
        self.products = np.zeros((n, hidden_size))  # sum of w y h
        self.sums, self.sums_of_squares = np.zeros(n), np.zeros(n)  # of w y and w y^2

    def add(self, hidden: np.ndarray, ratings: np.ndarray, weights: np.ndarray | None = None) -> "Moments":
        """
        Args:
            hidden (`np.ndarray`): (N, H).
            ratings (`np.ndarray`): (N, n, R), NaN where there is none.
            weights (`np.ndarray`, *optional*): (N,) precision of a row's ratings, relative to others, above 0. By
                default 1.

        Raises:
            ValueError: a hidden state is not finite, a weight is not above 0.
        """
        hidden = np.asarray(hidden, dtype=np.float64)
        if not np.isfinite(hidden).all():
            row = int(np.flatnonzero(~np.isfinite(hidden).all(-1))[0])
            raise ValueError(f"the hidden state of row {row} of this batch is not finite: no posterior can be fitted.")
        w = np.ones(len(hidden)) if weights is None else np.asarray(weights, dtype=np.float64)
        if not (np.isfinite(w) & (w > 0)).all():
            row = int(np.flatnonzero(~(np.isfinite(w) & (w > 0)))[0])
            raise ValueError(f"the weight of row {row} of this batch is {w[row]}: it must be finite and above 0.")
        if not len(hidden):
            return self
        if self.origin is None:
            self.origin = hidden.mean(0)
        hidden = hidden - self.origin
        ratings = np.asarray(ratings, dtype=np.float64)
        given = np.isfinite(ratings).sum(-1).astype(np.float64)  # (N, n)
        weighted, totals = given * w[:, None], np.nansum(ratings, axis=-1) * w[:, None]
        counts = weighted.mean(-1)  # (N,)
        self.count += counts.sum()
        self.hidden += counts @ hidden
        self.squares += (hidden * counts[:, None]).T @ hidden
        self.ratings += given.sum(0)
        self.mass += weighted.sum(0)
        self.hidden_of += weighted.T @ hidden
        self.products += totals.T @ hidden
        self.sums += totals.sum(0)
        self.sums_of_squares += (np.nansum(ratings**2, axis=-1) * w[:, None]).sum(0)
        return self

    def __add__(self, other: "Moments") -> "Moments":
        if self.origin is None or other.origin is None:
            return other if self.origin is None else self
        both = Moments(len(self.hidden), len(self.ratings))
        both.origin = self.origin
        shift = other.origin - self.origin  # other's h are to be read from the origin of self
        for name in ("count", "ratings", "mass", "sums", "sums_of_squares"):
            setattr(both, name, getattr(self, name) + getattr(other, name))
        both.hidden = self.hidden + other.hidden + other.count * shift
        crossed = np.outer(other.hidden, shift)
        both.squares = self.squares + other.squares
        both.squares += crossed
        both.squares += crossed.T
        both.squares += other.count * np.outer(shift, shift)
        both.hidden_of = self.hidden_of + other.hidden_of + np.outer(other.mass, shift)
        both.products = self.products + other.products + np.outer(other.sums, shift)
        return both
