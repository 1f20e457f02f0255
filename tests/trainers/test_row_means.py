"""Metrics of evaluation count every row once, however rows fall into batches."""

import pytest

from urm_hf.trainers.row_means import LogsRowMeans, weighted_mean


class Logger:
    def log(self, logs, start_time=None):
        self.logged = dict(logs)


class Trainer(LogsRowMeans, Logger):
    """A trainer with metrics of three batches of evaluation, as TRL leaves them."""

    row_means = ("accuracy",)

    def __init__(self, training: bool):
        self.model = type("Model", (), {"training": training})
        values = {"accuracy": [1.0, 0.5, 0.0], "max_reward": [1.0, 2.0, 6.0]}
        self._metrics = {"train": dict(values), "eval": dict(values)}
        for rows in (4, 4, 1):
            self.count_rows(rows)


def test_a_value_counts_once_for_each_of_its_rows():
    assert weighted_mean([1.0, 0.5, 0.0], [4, 4, 1]) == pytest.approx((4 * 1.0 + 4 * 0.5 + 1 * 0.0) / 9)


def test_metrics_of_evaluation_that_are_means_are_weighted_by_rows():
    trainer, logs = Trainer(training=False), {"eval_loss": 0.1}
    trainer.log(logs)
    assert logs == trainer.logged == {"eval_loss": 0.1, "eval_accuracy": pytest.approx(6 / 9), "eval_max_reward": 3.0}
    assert not trainer._metrics["eval"]


def test_an_evaluation_does_not_count_the_rows_of_the_one_before():
    trainer = Trainer(training=False)
    trainer.log({})
    trainer._metrics["eval"] = {"accuracy": [0.0, 1.0]}
    trainer.count_rows(3)
    trainer.count_rows(1)
    trainer.log({})
    assert trainer.logged == {"eval_accuracy": pytest.approx(1 / 4)}


def test_metrics_of_training_are_means_of_batches_as_in_trl():
    trainer = Trainer(training=True)
    trainer.log({})
    assert trainer.logged == {"accuracy": pytest.approx(0.5), "max_reward": pytest.approx(3.0)}
