"""Batches by tokens: all rows once, in the budget, rows of one prompt together, the same in every run."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from urm_hf.trainers.token_batches import TokenBatches, divide_evenly, fill_batches, group_alike


def prompts(count: int, answers: int, seed: int = 0, conversations: int = 2) -> list[list[list[int]]]:
    rng = random.Random(seed)

    def draw(least: int, most: int) -> list[int]:
        return [rng.randrange(1000) for _ in range(rng.randint(least, most))]

    rows = []
    for _ in range(count):
        prompt = draw(20, 40)
        rows += [[prompt + draw(1, 10) for _ in range(conversations)] for _ in range(answers)]
    return rows


def distinct(rows) -> int:
    return len({tuple(ids[:end]) for row in rows for ids in row for end in range(1, len(ids) + 1)})


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4), st.sampled_from(["tree", "flat", "none"]))
def test_every_row_is_in_one_batch_within_the_budget(seed, count, answers, packing):
    rows, most = prompts(count, answers, seed), 400
    batches = fill_batches(rows, most, packing, seed)
    assert sorted(row for batch in batches for row in batch) == list(range(len(rows)))
    for batch in batches:
        chosen = [rows[number] for number in batch]
        tokens = {
            "tree": distinct(chosen),
            "flat": sum(len(ids) for row in chosen for ids in row),
            "none": 2 * len(chosen) * max(len(ids) for row in chosen for ids in row),
        }
        assert tokens[packing] <= most


def test_rows_of_one_prompt_are_a_group_whatever_all_rows_begin_with():
    rows = prompts(5, 3)
    system = list(range(2000, 2100))
    for given_rows in (rows, [[system + ids for ids in row] for row in rows]):
        groups = group_alike(given_rows)
        assert sorted(map(sorted, groups)) == [[3 * n, 3 * n + 1, 3 * n + 2] for n in range(5)]


def test_rows_that_share_nothing_are_groups_of_one():
    rows = prompts(6, 1)
    assert sorted(map(len, group_alike(rows))) == [1] * 6
    assert group_alike([]) == [] and group_alike([[[1, 2]]]) == [[0]]


def test_groups_stay_together_where_they_fit():
    rows = prompts(8, 3)
    batches = fill_batches(rows, 2000, "tree", 0)
    homes = {row: number for number, batch in enumerate(batches) for row in batch}
    together = sum(len({homes[3 * n + k] for k in range(3)}) == 1 for n in range(8))
    assert together >= 8 - (len(batches) - 1)  # a cut between batches divides one group at most


def test_epochs_have_the_same_batches_in_another_order():
    batches = TokenBatches(prompts(20, 1), 300, "tree", seed=1)
    first = list(batches)
    batches.set_epoch(1)
    second = list(batches)
    assert first != second and sorted(map(sorted, first)) == sorted(map(sorted, second))
    batches.set_epoch(0)
    assert list(batches) == first == list(TokenBatches(prompts(20, 1), 300, "tree", seed=1))
    assert list(TokenBatches(prompts(20, 1), 300, "tree", seed=2)) != first


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_an_epoch(processes):
    rows = prompts(20, 1)
    shares = [list(TokenBatches(rows, 300, "tree", 0, processes, index)) for index in range(processes)]
    assert len(set(map(len, shares))) == 1
    assert sorted(row for share in shares for batch in share for row in batch) == list(range(20))


def test_the_largest_batch_is_halved_and_single_rows_come_once_more():
    assert divide_evenly([[0, 1, 2, 3], [4], [5]], 2) == [[0, 1], [2, 3], [4], [5]]
    assert divide_evenly([[0], [1], [2]], 2) == [[0], [1], [2], [0]]


def test_a_row_beyond_the_budget_is_named():
    rows = [*prompts(3, 1), [[1] * 90, [2] * 90]]
    with pytest.raises(ValueError, match="row 3 of those that train takes 180 tokens, more than"):
        fill_batches(rows, 150, "tree", 0)
