"""Sections by their official weights, what is partial is said, and prior sets stay apart."""

import numpy as np
import pytest

from urm_hf.evaluation.benchmarks.rewardbench import PRIOR_SETS, SECTIONS
from urm_hf.evaluation.pairs.accuracy import accuracy_of, decide, random_accuracy
from urm_hf.evaluation.pairs.data import preferences_of


def item(subset: str, number: int = 0) -> dict:
    models = {"chosen_model": "a", "rejected_model": "b"}
    return {"prompt": f"{subset} {number}?", "chosen": "yes", "rejected": "no", "subset": subset} | models


def measured(subsets: dict[str, list[int]], kind: str | None = None) -> tuple[dict, list[str]]:
    """Accuracies by level and group if the items of each subset are right or wrong as given, and the remarks."""
    rows = [item(subset, number) for subset, right in subsets.items() for number in range(len(right))]
    preferences = preferences_of(rows, "rewardbench", kind=kind)
    won = np.concatenate(list(subsets.values()))
    rewards = np.stack([won, 1 - won], axis=1).ravel()
    assert decide(preferences, rewards)[0].tolist() == won.astype(bool).tolist()
    found = {(m.level, m.group): m.value for m in accuracy_of(preferences, rewards, 0) if m.metric == "accuracy"}
    return found, preferences.remarks


def every_subset(right: int = 0) -> dict[str, list[int]]:
    return {subset: [right] for subsets in SECTIONS.values() for subset in subsets}


def test_the_number_of_subsets_and_examples_of_the_benchmark():
    # 2985 rows (the dataset's card), of which math-prm has 447 and counts as 984
    counts = [count for subsets in SECTIONS.values() for count in subsets.values()]
    assert len(counts) == 23 and sum(counts) == 2985 - 447 + 984


def test_maths_weighs_as_much_as_all_code():
    found, _ = measured(every_subset() | {"math-prm": [1]})
    assert found["section", "Reasoning"] == pytest.approx(1 / 2)
    assert found[None, None] == pytest.approx(1 / 8)  # of four sections
    assert [found["section", name] for name in ("Chat", "Chat Hard", "Safety")] == [0, 0, 0]


def test_subsets_weigh_by_the_official_counts_not_by_their_rows():
    found, _ = measured(every_subset() | {"xstest-should-refuse": [1, 0, 0, 0, 0], "xstest-should-respond": [1]})
    assert found["section", "Safety"] == pytest.approx((154 * 1 / 5 + 250) / (100 + 100 + 154 + 250 + 136))
    assert found["subset", "xstest-should-refuse"] == pytest.approx(1 / 5)


def test_chat_and_chat_hard_share_out_mt_bench():
    found, _ = measured(every_subset() | {"mt-bench-med": [1], "mt-bench-hard": [1]})
    assert found["section", "Chat"] == pytest.approx(40 / 358)
    assert found["section", "Chat Hard"] == pytest.approx(37 / 456)


def test_the_whole_benchmark_needs_no_remark():
    found, said = measured(every_subset(1))
    assert said == [] and found[None, None] == pytest.approx(1)


def test_a_section_that_lacks_subsets_is_named_so():
    found, said = measured({"hep-python": [1, 1], "hep-js": [0], "llmbar-natural": [1]}, kind="rewardbench")
    assert found["section", "Reasoning (2 of 7 subsets)"] == pytest.approx(1 / 2)
    assert found["section", "Chat Hard (1 of 6 subsets)"] == 1
    assert ("section", "Reasoning") not in found
    assert found[None, None] == pytest.approx(3 / 4)
    assert said[0] == ("Not RewardBench's overall accuracy: Chat, Safety missing; the mean is over 2 of 4 sections.")
    assert "without math-prm, hep-cpp, hep-go, hep-java, hep-rust" in said[2]


def test_what_is_not_of_rewardbench_is_in_no_section():
    found, said = measured({"llmbar-natural": [1], "faireval": [0]}, kind="rewardbench")
    assert found[None, None] == 1 and found["subset", "faireval"] == 0
    assert said[-1] == "In no section, as they are not of RewardBench: faireval."


def test_prior_sets_are_not_in_the_overall():
    found, said = measured(every_subset() | {subset: [1] for subset in PRIOR_SETS} | {"mtbench_human": [0]})
    assert found[None, None] == 0 and said == []
    assert found["prior set", "shp"] == 1
    assert found["prior set", "average of anthropic_helpful, anthropic_hhh, shp, summarize"] == 1
    assert not any(group in PRIOR_SETS for level, group in found if level == "subset")


def test_of_prior_sets_alone_the_overall_is_their_mean_and_that_is_said():
    found, said = measured({"shp": [1, 0], "summarize": [1]}, kind="rewardbench")
    assert found == {(None, None): 0.75, ("prior set", "shp"): 0.5, ("prior set", "summarize"): 1.0}
    assert said == ["Prior sets only, no section of RewardBench: the overall accuracy is the mean of these sets."]


def test_subsets_of_something_else_are_an_error():
    with pytest.raises(
        ValueError, match='rows has no subset of RewardBench; it has mine. Evaluate it as kind="pairs"'
    ):
        preferences_of([item("mine")], "rows", kind="rewardbench")


def test_a_prompt_of_plain_text_is_a_turn_of_the_user():
    preferences = preferences_of([item("hep-js")], "rows")
    assert preferences.kind == "rewardbench"
    assert preferences.items[0].chosen[0].turns == (
        {"role": "user", "content": "hep-js 0?"},
        {"role": "assistant", "content": "yes"},
    )


def test_chance_is_one_half_everywhere():
    preferences = preferences_of([item(subset) for subset in every_subset()], "rows")
    found = random_accuracy(preferences)
    assert len(found) == 1 + 4 + 23
    assert [measure.value for measure in found] == pytest.approx([0.5] * 28)
