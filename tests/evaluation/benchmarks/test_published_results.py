"""
Published RewardBench results, put through this package's sections, give the sections that were published with them.

Per-subset accuracies are facts; each is written with the place it was published at. What is compared with was computed
by other people's code: the paper's Table 1, and the sections that authors reported from RewardBench's own script.
"""

import numpy as np
import pytest

from urm_hf.evaluation.benchmarks.rewardbench import SECTIONS
from urm_hf.evaluation.pairs.accuracy import accuracy_of
from urm_hf.evaluation.pairs.data import preferences_of

SUBSETS = [subset for subsets in SECTIONS.values() for subset in subsets]
ROWS = {subset: count for subsets in SECTIONS.values() for subset, count in subsets.items()} | {"math-prm": 447}

# In the order of SECTIONS: Chat (5), Chat Hard (6), Safety (5), Reasoning (7).
PUBLISHED = {
    # https://huggingface.co/datasets/allenai/reward-bench-results, commit 05921a5, eval-set/LxzGordon/
    # URM-LLaMa-3.1-8B.json: the paper's model, run by the benchmark's authors. Sections and overall:
    # the paper's Table 1, in per cent.
    "LxzGordon/URM-LLaMa-3.1-8B": {
        "shares": [0.95, 0.9368421052631579, 0.9473684210526315, 1.0, 1.0]
        + [0.8648648648648649, 0.93, 0.8656716417910447, 0.9456521739130435, 0.7872340425531915, 0.8043478260869565]
        + [0.92, 0.98, 0.9545454545454546, 0.944, 0.7426470588235294]
        + [0.9843400447427293, 0.9451219512195121, 0.9634146341463414, 0.9512195121951219, 0.9695121951219512]
        + [0.9573170731707317, 0.9451219512195121],
        "sections": {"Chat": 0.9553, "Chat Hard": 0.8816, "Safety": 0.9108, "Reasoning": 0.9698},
        "overall": 0.9294,
        "to": 5e-5,
    },
    # https://github.com/allenai/reward-bench/pull/215: subsets and sections.
    "ShikaiChen/LDL-Reward-Gemma-2-27B-v0.1": {
        "shares": [0.99, 0.9368421052631579, 0.9473684210526315, 1.0, 0.975]
        + [0.8648648648648649, 0.94, 0.9104477611940298, 0.9565217391304348, 0.8297872340425532, 0.8478260869565217]
        + [0.97, 0.99, 0.948051948051948, 0.964, 0.8161764705882353]
        + [1.0, 0.9817073170731707, 0.9817073170731707, 0.9939024390243902, 0.9939024390243902]
        + [0.975609756097561, 0.9573170731707317],
        "sections": {
            "Chat": 0.9636871508379888,
            "Chat Hard": 0.9078947368421053,
            "Safety": 0.9378378378378378,
            "Reasoning": 0.9903455284552846,
        },
        "overall": None,
        "to": 1e-12,
    },
}


def count_right(shares: list[float]) -> dict[str, int]:
    return {subset: round(share * ROWS[subset]) for subset, share in zip(SUBSETS, shares, strict=True)}


def accuracies(right: dict[str, int]) -> dict[tuple[str | None, str | None], float]:
    """Of all 2985 pairs, of which so many of each subset are right, by level and group."""
    rows, rewards = [], []
    models = {"chosen_model": "a", "rejected_model": "b"}
    for subset, count in ROWS.items():
        for number in range(count):
            pair = {"prompt": f"{subset} {number}?", "chosen": "yes", "rejected": "no", "subset": subset}
            rows.append(pair | models)
            rewards += [1.0, 0.0] if number < right[subset] else [0.0, 1.0]
    measured = accuracy_of(preferences_of(rows, "rewardbench"), np.array(rewards), 0)
    return {(m.level, m.group): m.value for m in measured if m.metric == "accuracy"}


@pytest.mark.parametrize("model", PUBLISHED)
def test_shares_are_whole_numbers_of_the_rows_of_the_benchmark(model):
    shares = PUBLISHED[model]["shares"]
    assert sum(ROWS.values()) == 2985
    for (subset, right), share in zip(count_right(shares).items(), shares, strict=True):
        assert right / ROWS[subset] == pytest.approx(share, abs=1e-9), subset


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_subsets_give_the_published_sections(model):
    published = PUBLISHED[model]
    found = accuracies(count_right(published["shares"]))
    sections = {section: found["section", section] for section in SECTIONS}
    assert sections == pytest.approx(published["sections"], abs=published["to"])
    assert found[None, None] == pytest.approx(np.mean(list(sections.values())), abs=1e-12)
    if published["overall"] is not None:
        assert found[None, None] == pytest.approx(published["overall"], abs=published["to"])


def test_the_papers_sections_are_these_numbers_of_right_pairs():
    # what tells the table's first row from its authors' own report of the same model (issue 176: 95.25, 88.38, 91.08,
    # 96.93), which is another run: the paper's row is that of the benchmark's authors
    right = count_right(PUBLISHED["LxzGordon/URM-LLaMa-3.1-8B"]["shares"])
    totals = [sum(right[subset] for subset in SECTIONS[section]) for section in ("Chat", "Chat Hard", "Safety")]
    assert totals == [342, 402, 674]
