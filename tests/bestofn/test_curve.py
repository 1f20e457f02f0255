"""Best of n against the enumeration of all subsets, and against what is known in closed form."""

from itertools import combinations, permutations, product
from math import comb, exp, log

import numpy as np
import pytest

from urm_hf.bestofn.curve import expected_best, kl_bound, share_within, sizes_up_to, winning_probabilities

SCORES = {
    "none": lambda rng: rng.normal(size=7),
    "some": lambda rng: rng.integers(0, 3, 7).astype(float),
    "all": lambda rng: np.zeros(7),
    "infinite": lambda rng: np.where(np.arange(7) < 4, -np.inf, rng.normal(size=7)),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", SCORES)
def test_it_is_the_mean_over_all_subsets_with_ties_in_equal_parts(ties, seed):
    rng = np.random.default_rng(seed)
    values, scores = rng.normal(size=7), SCORES[ties](rng)
    for n in range(1, 8):
        shares = np.zeros(7)
        for subset in map(list, combinations(range(7), n)):
            winners = [k for k in subset if scores[k] == scores[subset].max()]
            shares[winners] += 1 / len(winners) / comb(7, n)
        assert winning_probabilities(scores, [n])[0] == pytest.approx(shares, abs=1e-12)
        assert expected_best(values, scores, [n])[0] == pytest.approx(shares @ values, abs=1e-12)


def test_ties_in_equal_parts_are_the_mean_over_all_breaks():
    values, scores = np.random.default_rng(0).normal(size=6), np.array([1, 1, 0, 1, 0, 2.0])
    sizes = [1, 2, 3, 6]
    broken = [expected_best(values, scores + 1e-3 * np.array(order), sizes) for order in permutations(range(6))]
    assert expected_best(values, scores, sizes) == pytest.approx(np.mean(broken, 0), abs=1e-12)


def test_distinct_scores_give_the_binomial_formula():
    scores = np.random.default_rng(0).permutation(20)
    for n in (1, 2, 5, 20):
        wanted = [comb(int(rank), n - 1) / comb(20, n) for rank in scores]
        assert winning_probabilities(scores, [n])[0] == pytest.approx(wanted, rel=1e-12)


def test_thousands_of_candidates_lose_no_precision():
    total = 4096
    sizes = sizes_up_to(total)
    scores = np.random.default_rng(0).permutation(total)
    won = winning_probabilities(scores, sizes)
    assert (won >= 0).all() and won.sum(1) == pytest.approx(np.ones(len(sizes)), abs=1e-9)
    for n, row in zip(sizes, won):
        for rank in (total - 1, total - 2, total // 2):  # exact: integers of any length
            place = int(np.flatnonzero(scores == rank)[0])
            assert row[place] == pytest.approx(comb(rank, n - 1) / comb(total, n), rel=1e-9, abs=1e-15)
        # the mean rank of the largest of n of 1..N is n (N + 1) / (n + 1)
        assert expected_best(scores + 1, scores, [n])[0] == pytest.approx(n * (total + 1) / (n + 1), rel=1e-9)


def test_it_is_unbiased_for_draws_of_a_policy():
    # gold = score = the number of an urn 0..3 of unequal odds: E max of n draws = sum_k 1 - F(k)^n
    odds = np.array([0.4, 0.3, 0.2, 0.1])
    sizes = [1, 2, 3, 5]
    drawn = np.array(list(product(range(4), repeat=5)))  # all that five draws can give, each as probable as it is
    estimates = odds[drawn].prod(1) @ [expected_best(row, row, sizes) for row in drawn]
    wanted = [sum(1 - below**n for below in np.cumsum(odds)[:-1]) for n in sizes]
    assert estimates == pytest.approx(wanted, abs=1e-12)


def test_no_choice_gives_the_mean_and_all_candidates_the_best():
    rng = np.random.default_rng(0)
    values, scores = rng.normal(size=9), rng.normal(size=9)
    assert expected_best(values, np.zeros(9), sizes_up_to(9)) == pytest.approx(np.full(5, values.mean()))
    first, *_, last = expected_best(values, scores, sizes_up_to(9))
    assert first == pytest.approx(values.mean()) and last == pytest.approx(values[scores.argmax()])
    rising = expected_best(values, values, sizes_up_to(9))
    assert (np.diff(rising) > 0).all() and rising[-1] == pytest.approx(values.max())


@pytest.mark.parametrize(
    ("candidates", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (33, [1, 2, 4, 8, 16, 32, 33])]
)
def test_sizes_double_up_to_all_candidates(candidates, sizes):
    assert sizes_up_to(candidates) == sizes


def test_kl_is_reached_without_ties_and_an_upper_bound_with_them():
    # best of n of a policy with K equally likely answers of different scores: P(k) = ((k+1)^n - k^n) / K^n
    for n in (1, 2, 4, 64):
        divergences = []
        for answers in (2, 10, 20000):
            k = np.arange(answers)
            chosen = ((k + 1) / answers) ** n - (k / answers) ** n
            divergences.append(float(np.sum(chosen * np.log(np.where(chosen > 0, chosen, 1) * answers))))
        assert kl_bound(n) == pytest.approx(divergences[-1], abs=2e-3)
        assert divergences == sorted(divergences) and divergences[-1] <= kl_bound(n) + 1e-9
    assert kl_bound([1, 8]).tolist() == pytest.approx([0, log(8) - 7 / 8])
    assert exp(kl_bound(1)) == 1


def test_subsets_within_some_candidates():
    for n in (1, 3, 6):
        assert share_within(6, [n])[0] == pytest.approx([comb(k, n) / comb(6, n) for k in range(7)], abs=1e-15)


@pytest.mark.parametrize(
    ("values", "scores", "sizes", "message"),
    [
        ([1, 2], [1, float("nan")], [1], "without NaN"),
        ([1, float("nan")], [1, 2], [1], "`values` must be finite"),
        ([1, 2, 3], [1, 2], [1], "as many as `scores`"),
        ([1, 2], [1, 2], [3], "between 1 and the number of candidates, 2; got"),
        ([1, 2], [1, 2], [0], "between 1 and"),
        ([1, 2], [1, 2], [], "between 1 and"),
        ([], [], [1], "between 1 and the number of candidates, 0"),
        ([[1, 2]], [[1, 2]], [1], r"shape \(N,\)"),
    ],
)
def test_what_makes_no_sense_is_an_error(values, scores, sizes, message):
    with pytest.raises(ValueError, match=message):
        expected_best(values, scores, sizes)
