"""What the verdicts on pairs come to: who wins, how sure that is, and how far the judge goes by position."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import binomtest

from urm_hf.statistics.bootstrap import bootstrap_intervals, rows_by_group

VERDICTS = ("win", "tie", "loss")


@dataclass(frozen=True)
class Judged:
    """
    Which answer, "a" or "b", a judge prefers; None: no reply told it.

    Args:
        a_first (`str` or `None`): where a is shown first.
        b_first (`str` or `None`): where b is shown first.
    """

    a_first: str | None
    b_first: str | None

    @property
    def verdict(self) -> str | None:
        """For a: "win" or "loss" if both orders say so, "tie" if they disagree; None if one of them is missing."""
        if self.consistent is None:
            return None
        if not self.consistent:
            return "tie"
        return "win" if self.a_first == "a" else "loss"

    @property
    def consistent(self) -> bool | None:
        """Whether both orders give the same answer; None if one of them is missing."""
        if self.a_first is None or self.b_first is None:
            return None
        return self.a_first == self.b_first


def summarize(
    judged: Sequence[Judged], prompts: Sequence[Hashable], labelled: bool, samples: int, seed: int
) -> dict[str, Any]:
    """
    Shares with 95 % intervals.

    Args:
        judged (`Sequence[Judged]`): of N pairs.
        prompts (`Sequence`): of each, what tells its prompt from others. Pairs of one prompt are resampled together.
        labelled (`bool`): whether a is known to be the better answer.
        samples (`int`): resamples of the bootstrap.
        seed (`int`): of the bootstrap.

    Returns:
        `dict`: counts, and shares each with `share`, `interval`, `method` and what was counted.
    """
    # only pairs of two verdicts: one order alone says as much of the place as of the answer
    whole = [n for n, pair in enumerate(judged) if pair.verdict is not None]
    verdicts = np.array([judged[n].verdict for n in whole])
    clusters = rows_by_group([prompts[n] for n in whole])

    def share(values: np.ndarray) -> dict[str, Any]:
        return _estimate_share(values, clusters, samples, seed)

    result: dict[str, Any] = {
        "pairs": len(judged),
        "prompts": len(set(prompts)),
        "judged": len(whole),
        "judged_prompts": len(clusters),
        "not_judged": len(judged) - len(whole),
    }
    if not whole:
        return result
    result |= {verdict: share(verdicts == verdict) for verdict in VERDICTS}
    result["win_rate"] = share((verdicts == "win") + 0.5 * (verdicts == "tie"))
    wins_first = np.array([judged[n].a_first == "a" for n in whole])  # whether a wins where it is shown first
    wins_second = np.array([judged[n].b_first == "a" for n in whole])
    result["win_rate_a_first"], result["win_rate_b_first"] = share(wins_first), share(wins_second)
    result["first_preferred"] = share((wins_first + (1.0 - wins_second)) / 2)
    result["inconsistent"] = share(verdicts == "tie") | {
        "always_first": int((wins_first & ~wins_second).sum()),
        "always_second": int((~wins_first & wins_second).sum()),
    }
    if labelled:
        result["agreement"] = share(verdicts == "win")
        consistent = verdicts != "tie"
        groups = rows_by_group([prompts[n] for n, kept in zip(whole, consistent, strict=True) if kept])
        if consistent.any():
            result["agreement_of_consistent"] = _estimate_share(verdicts[consistent] == "win", groups, samples, seed)
    return result


def _estimate_share(values: np.ndarray, clusters: Sequence[np.ndarray], samples: int, seed: int) -> dict[str, Any]:
    """
    The mean of values in 0..1, with a 95 % interval.

    Of yes and no on one pair for each prompt it is Wilson's; else whole prompts are resampled. A bootstrap has no
    width where all values are equal: if all are 0 or all are 1, Wilson's for the number of prompts stands in, else
    there is none.
    """
    value = float(values.mean())
    binary = bool(np.isin(values, (0, 1)).all())
    equal = bool((values == values[0]).all())
    counted = {"count": int(values.sum())} if binary else {}
    if binary and (equal or len(clusters) == len(values)):
        wilson = binomtest(round(value * len(clusters)), len(clusters)).proportion_ci(0.95, method="wilson")
        interval, method = [float(wilson.low), float(wilson.high)], "Wilson"
    elif equal or len(clusters) == 1:
        interval, method = None, None
    else:
        intervals = bootstrap_intervals(lambda rows: {"mean": float(values[rows].mean())}, clusters, samples, seed)
        interval, method = list(intervals["mean"]), "bootstrap over prompts"
    return {"share": value, **counted, "n": len(values), "interval": interval, "method": method}
