"""Hidden states are computed by all processes, each a share of nearly equal work."""

import random

import pytest

from urm_hf.trainers.frozen_features import find_share


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [1, 5, 200])
def test_shares_are_disjoint_whole_and_even(processes, count):
    rng = random.Random(count)
    lengths = [rng.randint(1, 60) for _ in range(count)]
    shares = [range(count)[find_share(lengths, process, processes)] for process in range(processes)]
    assert [number for share in shares for number in share] == list(range(count))
    tokens = [sum(lengths[number] for number in share) for share in shares]
    assert max(tokens) <= sum(lengths) / processes + max(lengths)  # no cut lies further off than one sequence


def test_a_process_without_sequences_has_an_empty_share():
    assert [find_share([], process, 2) for process in range(2)] == [slice(0, 0), slice(0, 0)]
