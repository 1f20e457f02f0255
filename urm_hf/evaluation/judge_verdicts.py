"""
A generative judge as a row of `urm evaluate`: the verdicts that `urm judge` wrote, in the place of rewards.

A verdict is of a pair, not of an answer: a judge may prefer a to b, b to c and c to a. So verdicts are looked up pair
by pair, and only data whose items are one better and one worse answer can be judged by them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.conversation_keys import conversation_key
from urm_hf.data.source import Source
from urm_hf.data.tables import FILE_TYPES
from urm_hf.evaluation.benchmarks.benchmark import PreferenceSet, build_pair_outcomes
from urm_hf.evaluation.benchmarks.group_means import measured_means
from urm_hf.evaluation.data import EvaluationData
from urm_hf.evaluation.measured import Measured
from urm_hf.evaluation.measurements import Measurements
from urm_hf.evaluation.model_scores import ModelScores
from urm_hf.scores import RewardScore

JUDGE = "judge"  # a kind of model
VERDICTS = {"win": (1.0, 0.0), "tie": (0.5, 0.5), "loss": (0.0, 1.0), None: (0.5, 0.5)}
# what `urm judge` writes beside the columns of a row
WRITTEN = ("verdict", "consistent") + tuple(
    f"{part}_{order}" for order in ("a_first", "b_first") for part in ("preferred", "problem", "replies")
)
ABSENT = "a judge's verdict has no probability and no measure of uncertainty"


def is_verdict_file(source: str) -> bool:
    """Whether a file is what `urm judge` wrote: every row that it can begin with has a verdict, or null for one."""
    if not (Path(source).is_file() and source.endswith(FILE_TYPES)):
        return False
    opened = Source(source)
    first = next(iter(opened.items()), None)
    if first is None:
        return False
    row = opened.row(first)
    return "verdict" in row and "preferred_a_first" in row


class JudgeVerdicts:
    """
    A judge, by the file of its verdicts; in `evaluate` it stands where an [`OpenModel`] does.

    Args:
        source (`str`): the file.
        name (`str`): what the judge is called in tables.

    Raises:
        ValueError: a row holds no verdict on two answers, or two rows give one pair two verdicts.
    """

    scorer = None  # there is nothing to load

    def __init__(self, source: str, name: str):
        self.source, self.name = source, name
        self.verdicts = _read_verdicts(source)

    def read_attributes(self) -> None:
        """None: a judge rates no attributes."""

    def read_training(self) -> list[Any]:
        """Nothing: what a judge was trained on is not known."""
        return []

    def has_untrained_gate(self) -> bool:
        """No: a judge has none."""
        return False

    def check_data(self, data: EvaluationData):
        """
        Raises:
            ValueError: the data are not pairs, or a pair has no row in the file; it is named.
        """
        self._find_verdicts(data)

    def score_data(self, data: EvaluationData, folder: Path) -> ModelScores:
        """
        Rewards that decide each pair as the judge did: 1 and 0, or twice 1/2 where its two orders disagree or it told
        nothing.
        """
        verdicts, scores = self._find_verdicts(data), []
        for verdict in verdicts:
            scores += [RewardScore(reward=reward) for reward in VERDICTS[verdict]]
        return ModelScores(self.name, JUDGE, self.source, None, None, scores, unjudged=verdicts.count(None))

    def _find_verdicts(self, data: EvaluationData) -> list[str | None]:
        if not isinstance(data.content, PreferenceSet):
            raise ValueError(f"{self.source} holds a judge's verdicts on pairs, and {data.name} holds ratings.")
        return _look_up(self.verdicts, data.content, self.source)


def measure_judge(preferences: PreferenceSet, judge: ModelScores, samples: int, seed: int) -> Measurements:
    """
    "accuracy_ties_half" of a judge, overall and of each group, "not_judged", and why the rest is absent.

    RewardBench asks a judge once, in an order drawn by lot, and counts half where the reply tells nothing. That is, on
    average over the lots, 1 for a pair that both orders decide, and 1/2 for one on which they disagree.
    """
    rewards = np.array([score.reward for score in judge.scores])
    _, chosen, rejected = preferences.pairs
    values = (np.sign(rewards[chosen] - rewards[rejected]) + 1) / 2
    means = preferences.benchmark.group_means(preferences)
    found = measured_means("accuracy_ties_half", build_pair_outcomes(preferences, values), means, samples, seed)
    found.append(Measured("not_judged", judge.unjudged / len(values), None, len(values), preferences.n_prompts))
    return Measurements(found, absent=dict.fromkeys(("brier", "nll", "ece", "aurc"), ABSENT))


def _read_verdicts(source: str) -> dict[tuple[str, str], str | None]:
    """Of each pair of answers, by their keys, what a judge says of the first."""
    opened = Source(source)
    found: dict[tuple[str, str], str | None] = {}
    for number, row in enumerate(map(opened.row, opened.items())):
        where = f"{source}, row {number}"
        verdict = row.get("verdict", "")
        if verdict not in VERDICTS:
            raise ValueError(f"{where}: `verdict` is {verdict!r}; expected win, tie, loss or null.")
        try:
            answers = conversations_of({k: v for k, v in row.items() if k not in WRITTEN}, Columns())
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        if len(answers) != 2:
            raise ValueError(f"{where}: it holds {len(answers)} answers, and a verdict is of two.")
        a, b = (conversation_key(conversation) for _, conversation in answers)
        if found.get((a, b), verdict) != verdict:
            raise ValueError(f"{where}: this pair has the verdict {verdict!r}, but {found[a, b]!r} further up.")
        found[a, b] = verdict
    return found


def _look_up(verdicts: Mapping[tuple[str, str], Any], data: PreferenceSet, source: str) -> list[str | None]:
    """What the judge says of the chosen answer of each item."""
    several = next((item for item in data.items if len(item.chosen) + len(item.rejected) != 2), None)
    if several is not None:
        count = len(several.chosen) + len(several.rejected)
        raise ValueError(
            f"{source} holds verdicts on pairs, and row {several.row} of {data.name} has {count} answers: judge its "
            "pairs, and evaluate them as pairs."
        )
    swapped = {"win": "loss", "loss": "win"}
    found, missing = [], []
    for item in data.items:
        chosen, rejected = conversation_key(item.chosen[0]), conversation_key(item.rejected[0])
        if (chosen, rejected) in verdicts:
            found.append(verdicts[chosen, rejected])
        elif (rejected, chosen) in verdicts:
            verdict = verdicts[rejected, chosen]
            found.append(swapped.get(verdict, verdict))
        else:
            missing.append(f"{item.file or data.name}, row {item.row}")
    if missing:
        raise ValueError(
            f"{source} has no verdict on {len(missing)} of {len(data.items)} pairs, the first of them {missing[0]}: "
            "it is of other data. Judge this data with `urm judge`."
        )
    return found
