"""Metrics of evaluation as means over rows, where TRL takes the mean over batches."""

from collections.abc import Sequence
from typing import Any, ClassVar


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """
    The mean of values that each stand for so many rows.

    Args:
        values (`list[float]`): (S) one of each batch.
        weights (`list[float]`): (S) rows of each batch.
    """
    return sum(value * weight for value, weight in zip(values, weights, strict=True)) / sum(weights)


class LogsRowMeans:
    """
    For a subclass of TRL's `RewardTrainer`: its metrics go into the log, those named in `row_means` weighted by rows.

    TRL averages what each batch gave. The last batch of an evaluation may be smaller, and its rows would count for
    more than others: an accuracy that depends on the batch size, and by which the best head could be chosen wrongly.
    """

    row_means: ClassVar[tuple[str, ...]] = ()  # metrics of evaluation that are a mean over the rows of each batch
    _batch_rows: list[int]

    # of the trainer that it is mixed into
    model: Any
    _metrics: dict[str, dict[str, list[float]]]

    def count_rows(self, rows: int) -> None:
        """Takes down how many rows an evaluation batch had; once for each batch, after its metrics."""
        self._batch_rows = [*getattr(self, "_batch_rows", []), rows]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """
        `logs` themselves get the metrics: they are what `evaluate` returns and the best head is chosen by.

        TRL's own `log` does that in some versions only (not in 1.0), and finds no metrics left here.
        """
        mode = "train" if self.model.training else "eval"
        prefix = "" if mode == "train" else "eval_"
        for name, values in self._metrics[mode].items():
            if mode == "eval" and name in self.row_means:
                logs[prefix + name] = weighted_mean(values, self._batch_rows)
            else:
                logs[prefix + name] = sum(values) / len(values)
        self._metrics[mode].clear()
        if mode == "eval":
            self._batch_rows = []
        super().log(logs, start_time)  # type: ignore[misc]  # of the trainer
