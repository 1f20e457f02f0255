"""
Sums over rated rows that a posterior is computed from: of any batches in any order, and of parts that are added up.

Shapes: N rows, n attributes, R ratings of each, H hidden size.
"""

import copy

import numpy as np


class Moments:
    """
    Sums over rows of hidden states and ratings. `a + b` are those of both parts.

    Each attribute has sums of its own, over the rows that rate it: a row counts as often as it has ratings of the
    attribute, times its weight. Attributes that the same rows rate share their sum of h h', the only large one.

    Sums are float64 and of h and y minus the first that were seen, so that a large mean costs no digits.

    Args:
        hidden_size (`int`): H.
        n (`int`): attributes.
    """

    def __init__(self, hidden_size: int, n: int):
        self.origin: np.ndarray | None = None  # (H,) that h is read from
        self.level = np.full(n, np.nan)  # that y is read from
        self.ratings = np.zeros(n)  # number of ratings
        self.mass = np.zeros(n)  # sum of w over the ratings of k
        self.inverse_mass = np.zeros(n)  # sum of 1/w
        self.hidden = np.zeros((n, hidden_size))  # sum of w h
        self.products = np.zeros((n, hidden_size))  # sum of w y h
        self.sums, self.sums_of_squares = np.zeros(n), np.zeros(n)  # of w y and w y^2
        self.groups = np.zeros(n, dtype=int)  # of attributes that the same rows rate
        self.squares = [np.zeros((hidden_size, hidden_size))]  # sum of w h h' of each group

    def add(self, hidden: np.ndarray, ratings: np.ndarray, weights: np.ndarray | None = None) -> "Moments":
        """
        Args:
            hidden (`np.ndarray`): (N, H).
            ratings (`np.ndarray`): (N, n, R), NaN where there is none.
            weights (`np.ndarray`, *optional*): (N,) precision of a row's ratings, relative to others, above 0. By
                default 1.

        Raises:
            ValueError: a hidden state or a rating is not finite, a weight is not above 0.
        """
        hidden, ratings = np.asarray(hidden, dtype=np.float64), np.asarray(ratings, dtype=np.float64)
        _check_rows(np.isfinite(hidden).all(-1), "the hidden state of row {} of this batch is not finite")
        _check_rows(~np.isinf(ratings).any((1, 2)), "a rating of row {} of this batch is not finite")
        w = np.ones(len(hidden)) if weights is None else np.asarray(weights, dtype=np.float64)
        _check_rows(np.isfinite(w) & (w > 0), "the weight of row {} of this batch is not finite and above 0")
        if not len(hidden):
            return self
        given = np.isfinite(ratings).sum(-1).astype(np.float64)  # (N, n)
        if self.origin is None:
            self.origin = hidden.mean(0)
        totals = np.nansum(ratings, axis=-1)
        first = np.isnan(self.level) & (given.sum(0) > 0)
        self.level[first] = totals.sum(0)[first] / given.sum(0)[first]
        hidden, ratings = hidden - self.origin, ratings - self.level[:, None]
        weighted, totals = given * w[:, None], np.nansum(ratings, axis=-1) * w[:, None]
        self.ratings += given.sum(0)
        self.mass += weighted.sum(0)
        self.inverse_mass += (given / w[:, None]).sum(0)
        self.hidden += weighted.T @ hidden
        self.products += totals.T @ hidden
        self.sums += totals.sum(0)
        self.sums_of_squares += (np.nansum(ratings**2, axis=-1) * w[:, None]).sum(0)
        self._divide(given)
        for group, squares in enumerate(self.squares):
            squares += (hidden * weighted[:, self.of(group), None]).T @ hidden
        return self

    def of(self, group: int) -> int:
        """An attribute of a group."""
        return int(np.argmax(self.groups == group))

    def _divide(self, columns: np.ndarray):
        """Attributes of one group whose columns (anything, n) differ go on in groups of their own."""
        keys = [(int(group), column.tobytes()) for group, column in zip(self.groups, columns.T, strict=True)]
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        if len(numbers) > len(self.squares):
            self.squares = [self.squares[group].copy() for group, _ in numbers]
            self.groups = np.array([numbers[key] for key in keys])

    def __add__(self, other: "Moments") -> "Moments":
        if self.origin is None or other.origin is None:
            return copy.deepcopy(other if self.origin is None else self)
        both = Moments(self.hidden.shape[1], len(self.ratings))
        both.origin, both.level = self.origin, np.where(np.isnan(self.level), other.level, self.level)
        for part in (self, other):
            part = part._read_from(both.origin, both.level)
            for name in ("ratings", "mass", "inverse_mass", "hidden", "products", "sums", "sums_of_squares"):
                setattr(both, name, getattr(both, name) + getattr(part, name))
            both._divide(part.groups[None])
            for group, squares in enumerate(both.squares):
                squares += part.squares[part.groups[both.of(group)]]
        return both

    def _read_from(self, origin: np.ndarray, level: np.ndarray) -> "Moments":
        """The same rows, with h and y read from elsewhere: sums of h + shift and y + rise."""
        assert self.origin is not None
        shift, rise = self.origin - origin, np.nan_to_num(self.level - level)
        if not shift.any() and not rise.any():
            return self
        moved = copy.copy(self)
        moved.squares = []
        for group, squares in enumerate(self.squares):
            k = self.of(group)
            crossed = np.outer(self.hidden[k], shift)
            crossed += crossed.T
            crossed += squares
            crossed += self.mass[k] * np.outer(shift, shift)
            moved.squares.append(crossed)
        moved.sums = self.sums + rise * self.mass
        moved.sums_of_squares = self.sums_of_squares + 2 * rise * self.sums + rise**2 * self.mass
        moved.hidden = self.hidden + self.mass[:, None] * shift
        moved.products = self.products + rise[:, None] * self.hidden + moved.sums[:, None] * shift
        return moved


def _check_rows(right: np.ndarray, message: str) -> None:
    if not right.all():
        raise ValueError(f"{message.format(int(np.flatnonzero(~right)[0]))}: no posterior can be fitted.")
