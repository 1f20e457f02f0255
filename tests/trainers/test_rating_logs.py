"""What the attribute stage logs of training, in the units of its evaluation."""

import numpy as np
import pytest
import torch

from tests.helpers.attribute_runs import FROZEN
from tests.helpers.tiny import tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, gating_trainer, logged, pair_rows, rated_rows
from urm_hf.trainers.rating_logs import average_sums, sum_batch

ROWS = rated_rows(12, seed=3, help=[[1, 2], 3, 0, 40, None, 20, [1, 1, 4], 0, 20, 3, 1, 2])


@pytest.mark.parametrize("config", [{}, {"freeze_backbone": True}], ids=["tokens", "cached"])
def test_a_training_batch_is_logged_as_it_would_be_evaluated(tmp_path, config):
    """All rows in one batch, no dropout, no step before it: training and evaluation see the same predictions."""
    whole = {"per_device_train_batch_size": 12, "per_device_eval_batch_size": 12, "max_steps": 1, "keep_best": False}
    trainer = attribute_trainer(tmp_path, ROWS, ROWS, **whole | config)
    before = trainer.evaluate()
    trainer.state.log_history.clear()
    trainer.train()
    for name in ("nll", "mean_std"):
        (value,) = logged(trainer, name)
        assert value == pytest.approx(before[f"eval_{name}"], rel=1e-5), name
    stds = trainer.model.config.label_stds
    assert stds[0] > 5 * stds[1]  # the two units differ
    expected = np.mean([before[f"eval_mean_std/{name}"] / std for name, std in zip(ATTRIBUTES, stds)])
    assert logged(trainer, "mean_relative_std") == [pytest.approx(expected, rel=1e-5)]


def test_the_loss_is_the_sum_and_nll_the_average_over_attributes(tmp_path):
    """With one rating everywhere the loss is Eq. 4, and the sum over n attributes is n times their average."""
    trainer = attribute_trainer(tmp_path, rated_rows(), per_device_train_batch_size=12, max_steps=1)
    trainer.train()
    assert logged(trainer, "loss")[0] == pytest.approx(len(ATTRIBUTES) * logged(trainer, "nll")[0], rel=1e-3)


def test_sums_of_two_processes_give_what_one_batch_of_both_gives():
    generator = torch.Generator().manual_seed(0)
    mu, s = torch.randn(6, 2, generator=generator), torch.randn(6, 2, 3, generator=generator)
    sigma = torch.rand(6, 2, generator=generator) + 0.5
    s[:2, 0], s[4, 1, 1:] = torch.nan, torch.nan
    parts = [sum_batch(sigma[rows] * 3, mu[rows], sigma[rows], s[rows]) for rows in (slice(2), slice(2, 6))]
    assert average_sums(sum(parts)) == pytest.approx(average_sums(sum_batch(sigma * 3, mu, sigma, s)), rel=1e-6)


def test_a_batch_without_ratings_has_no_likelihood():
    ones, nothing = torch.ones(2, 1), torch.full((2, 1, 1), torch.nan)
    assert average_sums(sum_batch(ones, ones, ones, nothing)) == {"mean_std": 1.0, "mean_relative_std": 1.0}


def test_tokens_are_counted_only_where_they_pass_the_backbone(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    frozen = attribute_trainer(tmp_path / "frozen", rated_rows(), rated_rows(seed=1), **FROZEN)
    gating = gating_trainer(tmp_path / "gating", pair_rows(), pair_rows(seed=1), model=model)
    for trainer in (frozen, gating):
        trainer.train()
        assert not logged(trainer, "num_tokens") and not logged(trainer, "eval_num_tokens")
    whole = attribute_trainer(tmp_path / "whole", rated_rows(), num_train_epochs=1)
    whole.train()
    expected = sum(len(row["input_ids"]) for row in whole.train_dataset)
    assert logged(whole, "num_tokens")[-1] == expected
