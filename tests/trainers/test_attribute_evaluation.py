"""The attribute stage evaluated: its metrics, and the best head."""

import numpy as np
import pytest
from datasets import Dataset

from tests.helpers.attribute_runs import FROZEN, forward
from tests.helpers.tiny import tiny_urm
from tests.helpers.training import ATTRIBUTES, HeadsAtEvaluation, attribute_trainer, rated_rows
from urm_hf.statistics.rating_metrics import attribute_metrics

# Keeping the best head


def scripted(tmp_path, values: list[float], **config):
    """A run of one evaluation an epoch that finds these NLLs; the trainer and the head at each evaluation."""
    heads, script = HeadsAtEvaluation(), iter(values)
    trainer = attribute_trainer(
        tmp_path,
        rated_rows(),
        rated_rows(seed=3),
        callbacks=[heads],
        compute_metrics=lambda prediction: {"nll": next(script)},
        **FROZEN | {"num_train_epochs": len(values)} | config,
    )
    trainer.train()
    return trainer, heads.heads


def test_the_head_of_the_best_evaluation_is_kept(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 1.0, 2.0, 1.5])
    assert not heads[1].equal(heads[3])
    assert trainer.model.score.value.weight.equal(heads[1])


def test_without_keep_best_the_last_head_stays(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 1.0, 2.0, 1.5], keep_best=False, eval_strategy="epoch")
    assert trainer.model.score.value.weight.equal(heads[3])


def test_patience_ends_training_after_evaluations_without_improvement(tmp_path):
    trainer, heads = scripted(tmp_path, [3.0, 2.0, 2.5, 2.6, 1.0, 0.5], patience=2)
    assert len(heads) == 4
    assert trainer.model.score.value.weight.equal(heads[1])


def test_an_improvement_renews_the_patience(tmp_path):
    _, heads = scripted(tmp_path, [3.0, 3.5, 2.0, 2.5, 1.0, 1.5], patience=2)
    assert len(heads) == 6


def test_a_head_of_the_burn_in_is_no_candidate(tmp_path):
    """Three steps an epoch; the first two epochs are burn-in."""
    trainer, heads = scripted(tmp_path, [0.1, 0.2, 3.0, 2.0, 2.5], burn_in=6)
    assert trainer.model.score.value.weight.equal(heads[3])


def test_a_head_whose_metric_is_nan_is_not_kept(tmp_path):
    trainer, heads = scripted(tmp_path, [float("nan"), 2.0, float("nan"), 3.0])
    assert trainer.model.score.value.weight.equal(heads[1])


@pytest.mark.parametrize(
    "loss_type, best", [("mle", 1), ("beta_nll", 1), ("deterministic", 2), ("regression", 2)], ids=str
)
def test_the_best_head_is_that_of_the_loss_s_own_metric(tmp_path, loss_type, best):
    """NLL is least at the second evaluation, MSE at the third."""
    heads, script = HeadsAtEvaluation(), iter([(3.0, 3.0), (1.0, 2.0), (2.0, 1.0), (4.0, 4.0)])
    trainer = attribute_trainer(
        tmp_path,
        rated_rows(),
        rated_rows(seed=3),
        callbacks=[heads],
        compute_metrics=lambda prediction: dict(zip(["nll", "mse"], next(script))),
        **FROZEN | {"num_train_epochs": 4, "loss_type": loss_type},
    )
    trainer.train()
    assert trainer.model.score.value.weight.equal(heads.heads[best])


# Evaluation


def without_runtime(metrics: dict[str, float]) -> dict[str, float]:
    ignored = ("runtime", "samples_per_second", "steps_per_second", "num_tokens", "epoch", "preparation_time")
    return {name: value for name, value in metrics.items() if not name.endswith(ignored)}


@pytest.mark.parametrize("config", [{}, {"freeze_backbone": True}], ids=["tokens", "cached"])
def test_evaluation_metrics_are_those_of_the_outputs(tmp_path, config):
    held_out = rated_rows(10, seed=5, help=[[1, 2], 3, 0, 4, None, 2, [1, 1, 4], 0, 2, 3])
    trainer = attribute_trainer(
        tmp_path, rated_rows(), held_out, attribute_scales={"help": [0, 4, 1]}, per_device_eval_batch_size=4, **config
    )
    units = trainer.model.config
    ratings = np.full((10, 2, 3), np.nan)
    for i, row in enumerate(held_out):
        for k, name in enumerate(ATTRIBUTES):
            values = row[name] if isinstance(row[name], list) else [] if row[name] is None else [row[name]]
            ratings[i, k, : len(values)] = values
    expected = attribute_metrics(
        *forward(trainer.model, held_out),
        ratings,
        ATTRIBUTES,
        units.label_means,
        units.label_stds,
        {"help": [0, 4, 1]},
    )
    metrics = without_runtime(trainer.evaluate())
    metrics.pop("eval_loss")
    assert metrics == pytest.approx({f"eval_{k}": v for k, v in expected.items()}, rel=1e-4, abs=1e-6, nan_ok=True)


def test_the_evaluation_loss_is_the_sum_of_the_attributes_nll(tmp_path):
    held_out = rated_rows(8, seed=5)
    metrics = attribute_trainer(tmp_path, rated_rows(), held_out, per_device_eval_batch_size=4).evaluate()
    assert metrics["eval_loss"] == pytest.approx(metrics["eval_nll/help"] + metrics["eval_nll/depth"], rel=1e-5)


@pytest.mark.parametrize("config", [{}, {"freeze_backbone": True}], ids=["tokens", "cached"])
def test_another_dataset_can_be_evaluated(tmp_path, config):
    held_out, other = rated_rows(10, seed=5), rated_rows(9, seed=6)
    model = tiny_urm(attributes=ATTRIBUTES, label_means=[2, 2], label_stds=[1, 1.5])
    kwargs = {"model": model, "standardize_features": False} | config
    expected = attribute_trainer(tmp_path, rated_rows(), other, **kwargs).evaluate()
    trainer = attribute_trainer(tmp_path, rated_rows(), held_out, **kwargs)
    actual = trainer.evaluate(Dataset.from_list(other))
    assert without_runtime(actual) == pytest.approx(without_runtime(expected), nan_ok=True)
    assert actual["eval_nll"] != pytest.approx(trainer.evaluate()["eval_nll"])


def test_several_datasets_are_evaluated_by_name(tmp_path):
    first, second = rated_rows(6, seed=5), rated_rows(6, seed=6)
    both = {"a": Dataset.from_list(first), "b": Dataset.from_list(second)}
    metrics = attribute_trainer(tmp_path, rated_rows(), both).evaluate()
    alone = attribute_trainer(tmp_path, rated_rows(), second).evaluate()
    assert metrics["eval_b_nll"] == pytest.approx(alone["eval_nll"])
    assert metrics["eval_a_nll"] != pytest.approx(alone["eval_nll"])
