"""Eq. 5's noise: standard normal, another on every process and in every micro-batch, the same when resumed."""

import itertools

import pytest
import torch
from scipy.stats import kstest

from tests.helpers.training import attribute_trainer, logged, rated_rows
from urm_hf.trainers.noise import draw_noise

LIKE = torch.zeros(200, 5)


def test_it_is_standard_normal_and_depends_on_nothing_but_its_numbers():
    drawn = draw_noise(LIKE, 0, 3, 1, 2)
    torch.manual_seed(1)
    assert torch.equal(drawn, draw_noise(LIKE, 0, 3, 1, 2))
    steps = torch.cat([draw_noise(LIKE, 0, step, 0, 0) for step in range(10)])
    assert kstest(steps.flatten().numpy(), "norm").pvalue > 0.01


def test_seeds_steps_micro_batches_and_processes_have_noise_of_their_own():
    drawn = [draw_noise(LIKE, *numbers).flatten() for numbers in itertools.product(range(2), repeat=4)]
    correlations = torch.corrcoef(torch.stack(drawn)) - torch.eye(len(drawn))
    assert correlations.abs().max() < 5 / len(drawn[0]) ** 0.5  # five standard errors of 1,000 independent numbers


def test_micro_batches_of_one_step_do_not_share_their_noise(tmp_path, monkeypatch):
    asked = []

    def watched(like, *numbers):
        asked.append(numbers)
        return draw_noise(like, *numbers)

    monkeypatch.setattr("urm_hf.trainers.attribute_trainer.draw_noise", watched)
    config = {"loss_type": "regression", "max_steps": 2, "gradient_accumulation_steps": 2, "seed": 7}
    attribute_trainer(tmp_path, rated_rows(8), per_device_train_batch_size=2, **config).train()
    assert asked == [(7, 0, 0, 0), (7, 0, 1, 0), (7, 1, 0, 0), (7, 1, 1, 0)]


@pytest.mark.parametrize("state", [0, 1])
def test_a_run_does_not_depend_on_the_global_generator_s_state_when_a_batch_is_drawn(tmp_path, state):
    trainer = attribute_trainer(tmp_path, rated_rows(8), loss_type="regression", max_steps=2)
    torch.manual_seed(state)
    trainer.train()
    assert len(logged(trainer, "loss")) == 2
