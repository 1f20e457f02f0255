"""Orders, cuts and packs, against what they mean: brute force on small alphabets."""

import random

import pytest

from urm_hf.scoring.engine.prefixes import LEAST_SHARED, next_cut, pack, prefix_order, worth_sharing


def common(a, b) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


def random_trie(seed: int, count: int = 40, letters: int = 2, longest: int = 12) -> list[tuple[int, ...]]:
    """Distinct sequences of few letters: they share much, and some are the beginning of others."""
    rng = random.Random(seed)
    rows = {tuple(rng.randrange(letters) * 70_000 for _ in range(rng.randint(1, longest))) for _ in range(count)}
    return rng.sample(sorted(rows), len(rows))


def path_tokens(packed, query: int) -> list[int]:
    return [token for start, stop in packed.queries[query][1] for token in packed.tokens[start:stop]]


@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_lexicographic_and_shared_is_what_neighbours_have_in_common(seed):
    rows = random_trie(seed)
    order, shared = prefix_order(rows)
    assert [rows[index] for index in order] == sorted(rows)
    ordered = sorted(rows)
    assert shared == [0] + [common(a, b) for a, b in zip(ordered, ordered[1:])]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_not_shared_with_the_neighbour_are_the_distinct_prefixes(seed):
    rows = random_trie(seed)
    prefixes = {row[: length + 1] for row in rows for length in range(len(row))}
    assert sum(map(len, rows)) - sum(prefix_order(rows)[1]) == len(prefixes)


def test_nothing_has_an_order():
    assert prefix_order([]) == ([], [])


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize("seed", range(20))
def test_the_path_of_a_span_ends_with_itself_and_spells_the_sequence_so_far(seed, block):
    rows = sorted(random_trie(seed))
    _, shared = prefix_order(rows)
    packed = pack(rows, shared, block)
    assert len(packed.tokens) == sum(map(len, rows)) - sum(shared)
    spelled = set()
    for number, ((start, stop), path) in enumerate(packed.queries):
        spelling = path_tokens(packed, number)
        assert path[-1][1] == stop and stop - start <= (block if shared else len(rows[0])) or len(path) == 1
        assert packed.positions[start:stop] == list(range(len(spelling) - (stop - start), len(spelling)))
        spelled.add(tuple(spelling))
    assert set(rows) <= spelled
    assert all(any(row[: len(part)] == part for row in rows) for part in spelled)


@pytest.mark.parametrize("seed", range(20))
def test_every_token_is_in_exactly_one_span_and_the_last_ones_are_found(seed):
    rows = sorted(random_trie(seed))
    packed = pack(rows, prefix_order(rows)[1], 2)
    covered = [position for (start, stop), _ in packed.queries for position in range(start, stop)]
    assert covered == list(range(len(packed.tokens)))
    ends = {stop - 1: number for number, ((_, stop), _) in enumerate(packed.queries)}
    assert [tuple(path_tokens(packed, ends[last])) for last in packed.last] == rows


def test_a_run_from_the_middle_takes_nothing_from_what_came_before():
    rows = sorted(random_trie(3))
    shared = prefix_order(rows)[1]
    packed = pack(rows[5:9], shared[5:9])
    assert packed.tokens[: len(rows[5])] == list(rows[5])
    assert len(packed.tokens) == sum(map(len, rows[5:9])) - sum(shared[6:9])


def test_a_pack_of_two_pairs_is_as_drawn():
    rows = [[1, 2, 3], [1, 2, 4, 5], [1, 2, 4, 6], [7]]
    packed = pack(rows, [0, 2, 3, 0])
    assert packed.tokens == [1, 2, 3, 4, 5, 6, 7]
    assert packed.positions == [0, 1, 2, 2, 3, 3, 0]
    assert packed.last == [2, 4, 5, 6]
    spans = [(0, 3), (3, 5), (5, 6), (6, 7)]
    paths = [[(0, 3)], [(0, 2), (3, 5)], [(0, 2), (3, 4), (5, 6)], [(6, 7)]]
    assert packed.queries == list(zip(spans, paths))


def cut_up(lengths, shared, budget) -> list[tuple[int, int]]:
    runs, start = [], 0
    while start < len(lengths):
        stop = next_cut(lengths, shared, start, budget)
        runs.append((start, stop))
        start = stop
    return runs


@pytest.mark.parametrize("budget", [1, 7, 20, 55, 10_000])
@pytest.mark.parametrize("seed", range(10))
def test_runs_follow_one_another_and_keep_to_the_budget(seed, budget):
    rows = sorted(random_trie(seed))
    lengths, shared = list(map(len, rows)), prefix_order(rows)[1]
    runs = cut_up(lengths, shared, budget)
    assert [start for start, _ in runs] == [0] + [stop for _, stop in runs[:-1]] and runs[-1][1] == len(rows)
    for start, stop in runs:
        tokens = len(pack(rows[start:stop], shared[start:stop]).tokens)
        assert start < stop and (tokens <= budget or stop - start == 1)


def test_a_cut_falls_between_groups_rather_than_in_one():
    # two prompts of 50 tokens, each with four answers of 10: 90 tokens a prompt
    lengths, shared = [60] * 8, [0, 50, 50, 50, 0, 50, 50, 50]
    assert cut_up(lengths, shared, 120) == [(0, 4), (4, 8)]
    assert cut_up(lengths, shared, 200) == [(0, 8)]


def test_a_pack_is_not_cut_short_for_a_better_place_near_its_beginning():
    lengths, shared = [10, 60, 60, 60, 60, 60], [0, 0, 50, 50, 50, 50]
    assert next_cut(lengths, shared, 0, 100) > 1


@pytest.mark.parametrize(
    "length, count, kept",
    [(100, LEAST_SHARED - 1, False), (100, LEAST_SHARED, True), (4000, 20, False), (4000, 400, True), (9, 8, True)],
)
def test_a_prefix_is_shared_if_that_saves_more_than_it_costs(length, count, kept):
    assert worth_sharing([length], [count]) == [count if kept else 0]
