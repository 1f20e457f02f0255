"""Best of four with ties, and the score of Ties worked out from its definition (`rewardbench2`)."""

import math

import numpy as np
import pytest

from urm_hf.evaluation.benchmarks import rewardbench2
from urm_hf.evaluation.pairs.accuracy import accuracy_of, decide, random_accuracy
from urm_hf.evaluation.pairs.data import preferences_of


def item(id: str, subset: str, chosen: int = 1, rejected: int = 3) -> dict:
    return {
        "id": id,
        "prompt": f"{id}?",
        "chosen": [f"right {i}" for i in range(chosen)],
        "rejected": [f"wrong {i}" for i in range(rejected)],
        "num_correct": chosen,
        "num_incorrect": rejected,
        "total_completions": chosen + rejected,
        "subset": subset,
    }


def values(rows: list[dict], rewards: list[float], metric: str = "accuracy") -> dict[str | None, float]:
    preferences = preferences_of(rows, "rewardbench2")
    assert preferences.kind == "rewardbench2"
    return {m.group: m.value for m in accuracy_of(preferences, rewards, 0) if m.metric == metric}


def ties_score(tied: list[float], reference: list[float]) -> float:
    """Of one tied prompt, whose last reward is of a wrong answer, and a reference with one right and one wrong one."""
    rows = [item("tied:3", "Ties", len(tied) - 1, 1), item("ref:3", "Ties", 1, 1)]
    return values(rows, [*tied, *reference])["Ties"]


def test_the_highest_of_four_wins_and_ties_for_it_share_the_point():
    rows = [item(f"{i}", "Math") for i in range(5)]
    rewards = [[3, 1, 2, 0], [2, 2, 1, 0], [2, 2, 2, 2], [1, 2, 0, 0], [2, 2, 1, 2]]
    assert values(rows, sum(rewards, []))["Math"] == pytest.approx((1 + 1 / 2 + 1 / 4 + 0 + 1 / 3) / 5)
    assert values(rows, sum(rewards, []), "tied")[None] == pytest.approx(3 / 5)
    assert decide(preferences_of(rows, "rows"), sum(rewards, []))[0].tolist() == [True, False, False, False, False]


def test_overall_is_the_mean_of_subsets_of_any_size():
    rows = [item("a", "Math"), item("b", "Focus"), item("c", "Focus"), item("d", "Focus")]
    found = values(rows, [1, 0, 0, 0] + 3 * [0, 1, 0, 0])
    assert found == {None: 0.5, "Math": 1.0, "Focus": 0.0}


@pytest.mark.parametrize(
    ("tied", "reference", "expected"),
    [
        # spread 1, margin 2; margin of the reference 1.5: everything holds
        ([5, 4, 2], [3, 1.5], 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(1.5 - 1)),
        # margin of the reference 0.5, smaller than the spread
        ([5, 4, 2], [3, 2.5], 0.3 + 0.3 + 0.2 + 0 + 0.01 * math.tanh(0.5 - 1)),
        # margin of the tied prompt smaller than its spread
        ([5, 3, 2], [9, 0], 0.3 + 0.3 + 0.01 * math.tanh(1 / 2 - 1)),
        # the wrong answer between the right ones; reference right
        ([5, 3, 4], [1, 0], 0.3 + 0.01 * math.tanh(-1 / 2 - 1)),
        # a margin equal to the spread is not larger than it
        ([3, 2, 1], [9, 0], 0.3 + 0.3 + 0.01 * math.tanh(0)),
        # no spread: the margin is infinitely larger, or infinitely smaller, or nothing where both are 0
        ([2, 2, 1], [3, 1], 0.3 + 0.3 + 0.2 + 0.2 + 0.01),
        ([2, 2, 3], [3, 1], 0.3 - 0.01),
        ([2, 2, 2], [3, 1], 0.3),
        ([2, 2, 1], [1, 1], 0.3 + 0.2),
    ],
)
def test_the_score_of_ties(tied, reference, expected):
    assert ties_score(tied, reference) == pytest.approx(expected)


def test_the_parts_of_ties_are_means_over_prompts_and_over_those_with_a_reference():
    rows = [item("tied:1", "Ties", 2, 1), item("ref:1", "Ties", 1, 1), item("tied:2", "Ties", 2, 1)]
    rows.append(item("ref:9", "Ties", 1, 1))
    rewards = [5, 4, 2, 3, 1.5, 1, 0, 2, 0, 1]  # tied:1 as above; tied:2 wrong and alone; ref:9 wrong and alone
    expected = 0.3 * 1 / 2 + 0.3 * 1 / 2 + 0.2 + 0.2 + 0.01 * math.tanh(0.5)
    assert values(rows, rewards)["Ties"] == pytest.approx(expected)
    said = preferences_of(rows, "rows").remarks
    assert said[-1] == "Ties: 2 of 4 prompts lack the one they go with, and count in its accuracies only."


def test_ties_of_a_prompt_and_its_reference_are_one_prompt_and_count_as_two_rows():
    rows = [item(f"{kind}:{n}", "Ties", 1 + (kind == "tied"), 1) for n in range(4) for kind in ("ref", "tied")]
    preferences = preferences_of(rows, "rows")
    found = accuracy_of(preferences, np.random.default_rng(0).normal(size=len(preferences.conversations)), 100)[0]
    assert (found.n, found.prompts) == (8, 4) and found.interval[0] < found.value < found.interval[1]


def test_decisions_and_ties_of_the_ties_subset():
    rows = [item("tied:1", "Ties", 2, 2), item("ref:1", "Ties", 1, 2)]
    preferences = preferences_of(rows, "rows")
    assert decide(preferences, [5, 4, 3, 3, 1, 1, 0])[0].tolist() == [True, False]
    assert decide(preferences, [5, 3, 4, 1, 1, 0, 0])[0].tolist() == [False, True]  # a wrong one between the right
    assert values(rows, [5, 4, 3, 3, 1, 1, 0], "tied")[None] == 0.5


def test_random_rewards_have_the_expected_accuracies():
    rows = [item("a", "Math"), item("b", "Focus", 1, 7)]
    rows += [item("tied:1", "Ties", 3, 2), item("ref:1", "Ties", 1, 4), item("tied:2", "Ties", 2, 3)]
    preferences = preferences_of(rows, "rows")
    expected = {m.group: m.value for m in random_accuracy(preferences)}
    assert expected["Math"] == 1 / 4 and expected["Focus"] == 1 / 8
    rng, found = np.random.default_rng(3), []
    for _ in range(1000):
        measured = accuracy_of(preferences, rng.normal(size=len(preferences.conversations)), 0)
        found.append({m.group: m.value for m in measured if m.metric == "accuracy"})
    for group, value in expected.items():
        draws = np.array([draw[group] for draw in found])
        assert draws.mean() == pytest.approx(value, abs=4 * draws.std() / np.sqrt(len(draws)))


def test_random_accuracies_of_tied_prompts_count_orders():
    # 3 right before 2 wrong: one of 10 orders; 1 before 4: one of 5
    preferences = preferences_of([item("tied:1", "Ties", 3, 2), item("ref:1", "Ties", 1, 4)], "rows")
    assert rewardbench2.random_outcomes(preferences).values[[0, -1]] == pytest.approx([1 / 10, 1 / 5])


def test_missing_subsets_are_said():
    said = preferences_of([item("a", "Math"), item("b", "Mine")], "rows").remarks
    assert "Factuality, Precise IF, Safety, Focus, Ties missing; the mean is over Math, Mine" in said[0]
    assert said[1] == "In the overall mean, but not of RewardBench 2: Mine."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [item("a", "Math", 2, 2)],
            r"row 0, read as 'rewardbench2': `chosen` has 2 answers; outside of Ties there is",
        ),
        (
            [item("a", "Math") | {"num_correct": 2}],
            "row 0.*`num_correct` is 2, but 1 answers are chosen and 3 rejected",
        ),
        ([item("a", "Math") | {"total_completions": 5}], "`total_completions` is 5"),
        ([item("a", "Math") | {"rejected": []}], "row 0: `rejected` is empty"),
        ([item("a", "Math"), item("b", "Math") | {"rejected": ["x", " "]}], r"row 1: `rejected`\[1\] is empty"),
        (
            [item("a", "Math"), item("b", "Math") | {"chosen": "x"}],
            "row 1.*`chosen` must be a list of answers.*got text",
        ),
        ([item("a", "Math") | {"rejected": ["right 0", "x"], "num_incorrect": 2, "total_completions": 3}], "equal"),
        ([item("a", "Math"), item("b", "Math") | {"subset": None}], "row 1: `subset` is null"),
        ([item("7", "Ties", 2, 2)], 'row 0.*in Ties, `id` must be "ref:NUMBER" or "tied:NUMBER", got \'7\''),
        ([item("tied:7", "Ties")], "row 0.*`chosen` has one answer, but tied:7 needs several"),
        ([item("ref:7", "Ties"), item("ref:7", "Ties")], "row 1: the `id` ref:7 is that of row 0 already"),
        ([item("ref:7", "Ties"), item("tied:8", "Ties", 2, 2)], "no prompt of Ties has a reference"),
        ([{k: v for k, v in item("a", "Math").items() if k != "subset"}], "there is no column `subset`"),
    ],
)
def test_bad_rows_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        preferences_of(rows, "rows", kind="rewardbench2")
