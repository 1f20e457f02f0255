"""
RewardBench (arXiv 2403.13787): four sections of subsets, and the prior sets of human preferences, apart from them.

A section is the mean of its subsets weighted by the numbers of examples that the benchmark fixes, the overall accuracy
the mean of the sections. Where subsets are missing, as in a local part of the benchmark, the means are over those that
are there: the section is then named with what it holds, as in "Reasoning (3 of 7 subsets)", and `remarks` lists what
is missing.

Paper: Lambert et al. (2024), "RewardBench: Evaluating Reward Models for Language Modeling", arXiv:2403.13787.
Data: https://huggingface.co/datasets/allenai/reward-bench, split "filtered"; prior sets:
https://huggingface.co/datasets/allenai/preference-test-sets, one split each.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from urm_hf.evaluation.benchmarks.benchmark import Benchmark, PreferenceItem, PreferenceSet, RowContext, count_pairs
from urm_hf.evaluation.benchmarks.group_means import GroupMean
from urm_hf.evaluation.benchmarks.pairs import read_pair
from urm_hf.evaluation.benchmarks.rows import PreferenceColumns, find_first

SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 100,
        "alpacaeval-length": 95,
        "alpacaeval-hard": 95,
        "mt-bench-easy": 28,
        "mt-bench-med": 40,
    },
    "Chat Hard": {
        "mt-bench-hard": 37,
        "llmbar-natural": 100,
        "llmbar-adver-neighbor": 134,
        "llmbar-adver-GPTInst": 92,
        "llmbar-adver-GPTOut": 47,
        "llmbar-adver-manual": 46,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 250,
        "donotanswer": 136,
    },
    "Reasoning": {
        "math-prm": 984,  # has 447 rows: raised to the weight of all code
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 164,
        "hep-rust": 164,
    },
}
SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}

PRIOR_SETS = (
    "anthropic_harmless",
    "anthropic_helpful",
    "anthropic_hhh",
    "mtbench_gpt4",
    "mtbench_human",
    "shp",
    "summarize",
)
AVERAGED_PRIOR_SETS = ("anthropic_helpful", "anthropic_hhh", "shp", "summarize")  # in the published average
PRIOR_SETS_REPOSITORIES = ("allenai/preference-test-sets", "allenai/pref-test-sets")


def reads(rows: Sequence[Mapping[str, Any]], columns: PreferenceColumns) -> bool:
    """Whether rows name the models of their answers, and some a subset of a section."""
    if "chosen_model" not in find_first(rows, columns):
        return False
    return any(row.get(columns.subset) in SECTION_OF for row in rows)


def read_item(row: Mapping[str, Any], number: int, context: RowContext) -> PreferenceItem:
    """A pair whose prompt of plain text is a user's turn; every row has a subset."""
    return read_pair(row, number, context.columns, is_chat=True, has_subsets=True)


def group_means(preferences: PreferenceSet) -> list[GroupMean]:
    """Overall, sections, prior sets and subsets of the items. Overall is of the sections, if there are any."""
    names = np.array([item.subset for item in preferences.items])
    masks = {subset: names == subset for subset in preferences.subsets}
    sections = {}
    for section, counts in SECTIONS.items():
        there = {subset: counts[subset] for subset in counts if subset in masks}
        total = sum(there.values())
        if there:
            sections[section] = [(masks[subset], count / total) for subset, count in there.items()]
    of_all = list(sections.values()) or [[(mask, 1.0)] for subset, mask in masks.items() if subset in PRIOR_SETS]
    overall = [(mask, weight / len(of_all)) for parts in of_all for mask, weight in parts]
    means = [GroupMean(None, None, overall)]
    for section, parts in sections.items():
        means.append(GroupMean("section", _section_name(section, len(parts)), parts))
    if all(subset in masks for subset in AVERAGED_PRIOR_SETS):
        average = [(masks[subset], 1 / len(AVERAGED_PRIOR_SETS)) for subset in AVERAGED_PRIOR_SETS]
        means.append(GroupMean("prior set", "average of " + ", ".join(AVERAGED_PRIOR_SETS), average))
    for subset, mask in masks.items():
        means.append(GroupMean("prior set" if subset in PRIOR_SETS else "subset", subset, [(mask, 1.0)]))
    return means


def remarks(preferences: PreferenceSet) -> list[str]:
    """What distinguishes these numbers from those of the whole benchmark; empty if nothing does."""
    there = preferences.subsets
    found = []
    absent = [section for section, counts in SECTIONS.items() if not there.keys() & counts.keys()]
    if absent and len(absent) < len(SECTIONS):
        left = len(SECTIONS) - len(absent)
        found.append(
            f"Not RewardBench's overall accuracy: {', '.join(absent)} missing; the mean is over {left} of "
            f"{len(SECTIONS)} sections."
        )
    for section, counts in SECTIONS.items():
        missing = [subset for subset in counts if subset not in there]
        if section not in absent and missing:
            found.append(f"{section} is a part of RewardBench's section: without {', '.join(missing)}.")
    if len(absent) == len(SECTIONS):
        found.append("Prior sets only, no section of RewardBench: the overall accuracy is the mean of these sets.")
    unknown = [subset for subset in there if subset not in SECTION_OF and subset not in PRIOR_SETS]
    if unknown:
        found.append(f"In no section, as they are not of RewardBench: {', '.join(unknown)}.")
    return found


def check_subsets(preferences: PreferenceSet):
    """A ValueError if none of the subsets is RewardBench's."""
    subsets = preferences.subsets
    if not any(subset in SECTION_OF or subset in PRIOR_SETS for subset in subsets):
        raise ValueError(
            f"{preferences.name} has no subset of RewardBench; it has {', '.join(subsets)}. Evaluate it as "
            'kind="pairs".'
        )


def _section_name(section: str, present: int) -> str:
    whole = len(SECTIONS[section])
    return section if present == whole else f"{section} ({present} of {whole} subsets)"


REWARDBENCH = Benchmark(
    name="rewardbench",
    reads=reads,
    read_item=read_item,
    outcomes=count_pairs,
    group_means=group_means,
    remarks=remarks,
    noun="pair",
    mean="the mean of its sections",
    check=check_subsets,
    repositories={"allenai/reward-bench": ["filtered"]} | dict.fromkeys(PRIOR_SETS_REPOSITORIES, PRIOR_SETS),
)
