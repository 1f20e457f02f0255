"""The attribute stage: its units, what it changes, what it loads and saves."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.attribute_runs import FROZEN, forward
from tests.helpers.tiny import pad_rows, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.training import (
    ATTRIBUTES,
    QUIET,
    attribute_trainer,
    changed,
    dataset_of,
    rated_rows,
    snapshot,
    whole_batch,
)
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.model_pass import ModelPass
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer
from urm_hf.trainers.attribute_trainer import FEWEST_ROWS

LABELS = ["score.label_mean", "score.label_std"]
HEAD = ["score.feature_mean", "score.feature_scale", *LABELS, "score.value.weight"]
FULL = {"num_train_epochs": 3, "per_device_train_batch_size": 4, "learning_rate": 1e-3}


# Units


def test_label_statistics_are_those_of_all_ratings(tmp_path):
    rows = rated_rows(4, help=[[0, 4], 3, [1, 1, 2], None], depth=[1, 2, 2, 4])
    config = attribute_trainer(tmp_path, rows).model.config
    help_, depth = np.array([0, 4, 3, 1, 1, 2]), np.array([1, 2, 2, 4])
    assert config.label_means == pytest.approx([help_.mean(), depth.mean()])
    assert config.label_stds == pytest.approx([help_.std(), depth.std()])


def test_without_standardising_the_labels_the_units_stay(tmp_path):
    config = attribute_trainer(tmp_path, rated_rows(), standardize_labels=False).model.config
    assert (config.label_means, config.label_stds) == ([0.0, 0.0], [1.0, 1.0])


def test_predictions_are_on_the_scale_of_the_ratings(tmp_path):
    rng = np.random.default_rng(0)
    rows = rated_rows(40, help=rng.normal(70, 5, 40).tolist(), depth=rng.normal(-3, 0.1, 40).tolist())
    trainer = attribute_trainer(tmp_path, rows, **FROZEN | {"num_train_epochs": 30})
    trainer.train()
    means, stds = forward(trainer.model, rows)
    assert means.mean(0) == pytest.approx([70, -3], rel=0.05)
    assert np.median(stds, axis=0) == pytest.approx([5, 0.1], rel=0.5)


def test_a_trained_urm_keeps_its_label_units(tmp_path):
    first = attribute_trainer(tmp_path, rated_rows()).model
    units = (first.config.label_means, first.config.label_stds)
    second = attribute_trainer(tmp_path, rated_rows(seed=7, help=4.0), model=first).model
    assert (second.config.label_means, second.config.label_stds) == units


def test_a_trained_urm_keeps_its_predictions_when_its_head_is_trained_on(tmp_path):
    model = attribute_trainer(tmp_path, rated_rows(), model=tiny_urm(attributes=ATTRIBUTES), **FROZEN).model
    rows = rated_rows(seed=7)
    before = forward(model, rows)
    attribute_trainer(tmp_path, rows, model=model, **FROZEN)
    assert_close(forward(model, rows), before)


def test_the_loss_is_noted_in_the_config(tmp_path):
    model = attribute_trainer(tmp_path, rated_rows(), loss_type="regression").model
    assert model.config.attribute_loss == "regression"


# What is trained


def test_without_freezing_all_but_the_gate_is_trained(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, **FULL).train()
    same = set(before) - set(changed(before, model))
    assert {key for key in same if "score.gate" not in key} == {"score.feature_mean", "score.feature_scale"}
    assert {key for key in before if "score.gate" in key} <= same


def test_with_a_frozen_backbone_only_the_value_head_changes(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    attribute_trainer(tmp_path, rated_rows(), model=model, fit_posterior=False, **FROZEN).train()
    assert changed(before, model) == HEAD


def test_feature_statistics_are_those_of_the_training_rows_only(tmp_path):
    model, rows = tiny_urm(attributes=ATTRIBUTES), rated_rows()
    attribute_trainer(tmp_path, rows, rated_rows(30, seed=5), model=model, **FROZEN)
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        hidden = torch.cat([model(**pad_rows([row])).pooled_hidden for row in ids])
    expected = tiny_urm(attributes=ATTRIBUTES)
    expected.score.standardize_features(hidden)
    assert_close(model.score.feature_mean, expected.score.feature_mean)
    assert_close(model.score.feature_scale, expected.score.feature_scale)


def test_a_few_rows_give_no_spread_of_features(tmp_path):
    """Ten texts, one of them twice, are too few to standardise by, eleven are not."""
    rows = rated_rows(11)
    with pytest.raises(ValueError, match="needs 11 different conv.*, got 10: .*`standardize_features=False`"):
        attribute_trainer(tmp_path, [*rows[:10], rows[0]], **FROZEN)
    attribute_trainer(tmp_path, rows, **FROZEN)
    attribute_trainer(tmp_path, rows[:2], standardize_features=False, **FROZEN)


@pytest.mark.parametrize("count", [FEWEST_ROWS, 21, 101])
def test_features_of_other_rows_are_larger_by_the_noise_of_the_statistics(count):
    """Mean square (N + 1) / (N - 3) of a Gaussian feature, less its mean, under the statistics of N other rows."""
    head, generator = tiny_urm().score, torch.Generator().manual_seed(0)
    squares = []
    for _ in range(500):
        hidden = 3 + 2 * torch.randn(count + 100, 64, generator=generator)
        head.standardize_features(hidden[:count])
        squares.append(((hidden[count:] - head.feature_mean) / head.feature_scale - 0.5).square().mean())
    assert torch.stack(squares).mean().item() == pytest.approx((count + 1) / (count - 3), rel=0.01)


def test_features_stay_as_they_are_on_request(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    settings = {"standardize_features": False, "fit_posterior": False}
    attribute_trainer(tmp_path, rated_rows(), model=model, **settings, **FROZEN).train()
    assert changed(before, model) == [*LABELS, "score.value.weight"]


def test_training_on_cached_hidden_states_is_training_on_tokens(tmp_path):
    rows, results = rated_rows(), []
    for cached in (True, False):
        model = tiny_urm(attributes=ATTRIBUTES)
        config = FROZEN | {"learning_rate": 1e-2, "weight_decay": 0.1, "freeze_backbone": cached}
        if not cached:
            model.requires_grad_(False).score.value.requires_grad_(True)
        trainer = attribute_trainer(tmp_path, rows, model=model, standardize_features=False, **config)
        trainer.train()
        results.append(model.score.value.weight.detach())
    assert (results[0] - tiny_urm(attributes=ATTRIBUTES).score.value.weight).abs().max() > 0.01
    assert_close(results[0], results[1])


def test_a_second_run_computes_no_hidden_state_again(tmp_path, monkeypatch):
    first = attribute_trainer(tmp_path, rated_rows(), **FROZEN)
    monkeypatch.setattr(ModelPass, "batches", lambda *args: pytest.fail("computed again"))
    second = attribute_trainer(tmp_path, rated_rows(), **FROZEN)
    torch.testing.assert_close(whole_batch(first), whole_batch(second), rtol=0, atol=0)  # read, not computed


# Loading


@pytest.fixture
def causal_lm(tmp_path) -> str:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(tmp_path / "lm")
    tiny_tokenizer().save_pretrained(tmp_path / "lm")
    return str(tmp_path / "lm")


def test_a_causal_lm_becomes_a_urm_with_fresh_heads_on_its_backbone(tmp_path, causal_lm):
    model = attribute_trainer(tmp_path, rated_rows(), model=causal_lm, attributes=ATTRIBUTES).model
    assert type(model) is URMForRewardModeling
    assert (model.config.attributes, model.config.attribute_loss) == (ATTRIBUTES, "mle")
    expected = AutoModelForCausalLM.from_pretrained(causal_lm).model.state_dict()
    assert [name for name, tensor in model.model.state_dict().items() if not tensor.equal(expected[name])] == []


def test_fresh_heads_follow_the_seed(tmp_path, causal_lm):
    def head(seed: int) -> torch.Tensor:
        kwargs = {"model": causal_lm, "attributes": ATTRIBUTES, "seed": seed}
        return attribute_trainer(tmp_path, rated_rows(), **kwargs).model.score.value.weight

    assert head(1).equal(head(1))
    assert not head(1).equal(head(2))


def test_a_quantisation_is_for_loading_a_named_model(tmp_path, causal_lm, monkeypatch):
    seen, load, asked = [], URMForRewardModeling.from_backbone, object()

    def from_backbone(*args, quantization_config=None, **kwargs):
        seen.append(quantization_config)
        return load(*args, **kwargs)

    monkeypatch.setattr(URMForRewardModeling, "from_backbone", from_backbone)
    args = URMAttributeConfig(str(tmp_path), attributes=ATTRIBUTES, **QUIET)
    settings = {"train_dataset": dataset_of(rated_rows()), "quantization_config": asked}
    model = URMAttributeTrainer(causal_lm, args, **settings).model
    assert seen == [asked]
    with pytest.raises(ValueError, match="`quantization_config` is for loading a model by name"):
        URMAttributeTrainer(model, args, **settings)


def test_a_urm_is_loaded_with_its_head(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    folder = save_with_tokenizer(model, tmp_path / "urm")
    loaded = attribute_trainer(tmp_path, rated_rows(), model=folder).model
    assert changed(snapshot(model), loaded) == LABELS


def test_a_urm_of_other_attributes_is_refused(tmp_path):
    folder = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    with pytest.raises(ValueError, match=r"predicts \['help', 'depth'\], but `attributes` asks for \['tone'\]"):
        attribute_trainer(tmp_path, rated_rows(), model=folder, attributes=["tone"])


# Checkpoints


def test_every_epoch_s_checkpoint_is_complete(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows(), **FULL | {"save_strategy": "epoch", "save_total_limit": None})
    trainer.train()
    folders = sorted(tmp_path.glob("checkpoint-*"))
    assert [folder.name for folder in folders] == ["checkpoint-3", "checkpoint-6", "checkpoint-9"]
    needed = {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    code = {"modeling_urm.py", "configuration_urm.py", "distributions_urm.py"}
    for folder in folders:
        assert needed | code <= {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForSequenceClassification])
def test_a_checkpoint_loads_as_the_model_that_was_trained(tmp_path, auto):
    trainer = attribute_trainer(tmp_path, rated_rows(), **FULL | {"save_strategy": "epoch"})
    trainer.train()
    model = auto.from_pretrained(tmp_path / "checkpoint-9")
    assert type(model) is URMForRewardModeling
    assert changed(snapshot(trainer.model), model) == []


def test_a_checkpoint_keeps_units_scales_and_loss_in_its_config(tmp_path):
    scales = {"help": [0, 4, 1]}
    trainer = attribute_trainer(
        tmp_path, rated_rows(), attribute_scales=scales, loss_type="beta_nll", **FULL | {"save_strategy": "epoch"}
    )
    trainer.train()
    config, saved = trainer.model.config, json.loads((tmp_path / "checkpoint-9" / "config.json").read_text())
    assert (saved["label_means"], saved["label_stds"]) == (config.label_means, config.label_stds)
    assert (saved["attribute_scales"], saved["attribute_loss"]) == (scales, "beta_nll")


def test_a_saved_model_has_the_template_it_was_trained_with(tmp_path):
    trainer = attribute_trainer(tmp_path, rated_rows())
    trainer.save_model(str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "chat_template.jinja").read_text() == tiny_tokenizer().chat_template
