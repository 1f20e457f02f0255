"""One measured number, as `results.json` lists it: what was measured, of which rows, how sure it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from urm_hf.statistics.bootstrap import bootstrap_intervals


@dataclass(frozen=True)
class Measured:
    """
    Args:
        metric: "accuracy", "brier", "aurc", ... value: on its natural scale (a share lies in 0..1).
        interval: 95 %, by resampling whole prompts; None where the value is exact or cannot be resampled.
        n: rows, pairs or ratings behind the value. prompts: distinct prompts among them.
        level, group: what it is confined to: ("subset", "hep-python"), ("attribute", "fluency"), ("kept", "0.8"), ...;
            both None: all rows.
        variant: the flavour where a metric has several: the uncertainty that rows are kept by, the kind of
            probability.
    """

    metric: str
    value: float
    interval: tuple[float, float] | None
    n: int
    prompts: int
    level: str | None = None
    group: str | None = None
    variant: str | None = None


def with_intervals(
    measure: Callable[[np.ndarray], dict[str, float]],
    rows: int,
    clusters: Sequence[np.ndarray],
    samples: int,
    seed: int,
    **where: str | None,
) -> list[Measured]:
    """
    The metrics of all rows, each with its interval over samples of clusters.

    Args:
        measure: metrics, by name, of the rows that it is given. rows: how many there are.
        clusters: the rows of each prompt (`urm_hf.statistics.bootstrap.rows_by_group`). samples: 0 gives no intervals.
        where: `level`, `group` and `variant` of the metrics.
    """
    values = measure(np.arange(rows))
    intervals = bootstrap_intervals(measure, clusters, samples, seed) if len(clusters) > 1 and samples else {}
    intervals = {name: bounds for name, bounds in intervals.items() if not np.isnan(bounds).any()}
    return [Measured(name, value, intervals.get(name), rows, len(clusters), **where) for name, value in values.items()]
