"""A dry run: what it tells is what the run then does."""

import pytest

from tests.helpers.training import attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf.trainers.plan import LAYER_BYTES, format_bytes, format_plan, plan_run


@pytest.mark.parametrize(
    "config",
    [
        {"num_train_epochs": 3, "max_steps": -1, "per_device_train_batch_size": 4},
        {"num_train_epochs": 2, "max_steps": -1, "per_device_train_batch_size": 3, "gradient_accumulation_steps": 2},
        {"num_train_epochs": 1.5, "max_steps": -1, "per_device_train_batch_size": 5, "dataloader_drop_last": True},
        {"max_steps": 4, "per_device_train_batch_size": 4},
        {"num_train_epochs": 2, "max_tokens_per_step": 90},
    ],
)
def test_the_steps_are_those_that_are_made(tmp_path, config):
    trainer = attribute_trainer(tmp_path, rated_rows(14), **config)
    plan = plan_run(trainer)
    trainer.train()
    assert plan.steps == trainer.state.global_step


def test_weights_rows_and_tokens_are_counted(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(14), per_device_train_batch_size=4)
    plan, model = plan_run(trainer), trainer.model
    gate = sum(weight.numel() for weight in model.score.gate.parameters())
    assert plan.parameters == model.num_parameters()
    assert plan.trained == model.num_parameters() - gate
    assert plan.dtypes == {"float32": plan.trained}
    lengths = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    assert (plan.rows, plan.tokens, plan.longest) == (14, sum(lengths), max(lengths))


def test_memory_is_sixteen_bytes_a_weight_that_trains_and_is_divided_where_it_is_shared(tmp_path):
    plan = plan_run(attribute_trainer(tmp_path, rated_rows(14)))
    whole = 16 * plan.trained + 4 * (plan.parameters - plan.trained)
    assert plan.memory(8, sharded=False) == whole
    assert plan.memory(8, sharded=True) == whole / 8
    assert format_bytes(whole / 8) in format_plan(plan, "out")


@pytest.mark.parametrize("checkpointing", [True, False])
def test_activations_follow_the_formula(tmp_path, checkpointing):
    trainer = attribute_trainer(
        tmp_path, rated_rows(14), per_device_train_batch_size=4, gradient_checkpointing=checkpointing
    )
    plan, config = plan_run(trainer), trainer.model.config
    layer = 2 * LAYER_BYTES * config.hidden_size  # float32
    layers = config.num_hidden_layers
    expected = layers * 4 * config.hidden_size + layer if checkpointing else layers * layer
    assert plan.activation_bytes == 4 * plan.longest * expected


def test_a_gate_trains_alone_and_no_hidden_state_is_computed(tmp_path):
    trainer = gating_trainer(tmp_path, pair_rows(12), dry_run=True)
    gate = sum(weight.numel() for weight in trainer.model.score.gate.parameters())
    plan = plan_run(trainer)
    assert plan.trained == gate and plan.rows == 12 and plan.activation_bytes is None
    assert "chosen_ids" in trainer.train_dataset.column_names


@pytest.mark.parametrize("count, told", [(3 * 2**30, "3.0 GiB"), (2**30, "1.0 GiB"), (2**29, "512.0 MiB")])
def test_memory_is_told_in_a_unit_that_can_be_read(count, told):
    assert format_bytes(count) == told
