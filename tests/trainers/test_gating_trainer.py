"""The gating stage: its loss, what it changes, what it learns."""

import random

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModel, AutoModelForCausalLM, TrainerCallback

from tests.helpers.tiny import pad_rows, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.training import (
    ATTRIBUTES,
    attribute_trainer,
    changed,
    gating_trainer,
    pair_rows,
    snapshot,
    whole_batch,
)
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.batches import Packs, PaddedBatches

WAYS = pytest.mark.parametrize("cache_features", [True, False], ids=["cached", "uncached"])


@torch.no_grad()
def rewards(model, conversations: list[list[dict]]) -> np.ndarray:
    """The reward of messages, each computed alone."""
    template = tiny_tokenizer().apply_chat_template
    ids = [template(messages, tokenize=True, return_dict=True)["input_ids"] for messages in conversations]
    return torch.cat([model(**pad_rows([row])).logits for row in ids])[:, 0].double().numpy()


def margins(model, rows: list[dict]) -> np.ndarray:
    """Reward of the chosen less that of the rejected answer."""
    chosen, rejected = (rewards(model, [row[column] for row in rows]) for column in ("chosen", "rejected"))
    return chosen - rejected


def loss_of_all(trainer) -> torch.Tensor:
    trainer.model.train()
    return trainer.compute_loss(trainer.model, whole_batch(trainer))


def log_sigmoid(x: np.ndarray) -> np.ndarray:
    return -np.logaddexp(0, -x)


# Loss


@WAYS
def test_the_loss_is_that_of_bradley_and_terry(tmp_path, cache_features):
    rows, model = pair_rows(), tiny_urm(attributes=ATTRIBUTES)
    trainer = gating_trainer(tmp_path, rows, model=model, cache_features=cache_features)
    assert loss_of_all(trainer).item() == pytest.approx(-log_sigmoid(margins(model, rows)).mean(), rel=1e-4)


@WAYS
def test_a_margin_is_asked_of_the_difference(tmp_path, cache_features):
    margin = [0.25 * row for row in range(12)]
    rows, model = pair_rows(margin=margin), tiny_urm(attributes=ATTRIBUTES)
    trainer = gating_trainer(tmp_path, rows, model=model, cache_features=cache_features)
    expected = -log_sigmoid(margins(model, rows) - np.array(margin)).mean()
    assert loss_of_all(trainer).item() == pytest.approx(expected, rel=1e-4)


@WAYS
def test_rewards_are_centred_on_request(tmp_path, cache_features):
    rows, model = pair_rows(), tiny_urm(attributes=ATTRIBUTES)
    kwargs = {"cache_features": cache_features, "center_rewards_coefficient": 0.3}
    trainer = gating_trainer(tmp_path, rows, model=model, **kwargs)
    total = sum(rewards(model, [row[column] for row in rows]) for column in ("chosen", "rejected"))
    expected = -log_sigmoid(margins(model, rows)).mean() + 0.3 * (total**2).mean()
    assert loss_of_all(trainer).item() == pytest.approx(expected, rel=1e-4)


@WAYS
def test_evaluation_gives_loss_and_accuracy_of_the_held_out_pairs(tmp_path, cache_features):
    held_out, model = pair_rows(20, seed=5), tiny_urm(attributes=ATTRIBUTES)
    trainer = gating_trainer(tmp_path, pair_rows(), held_out, model=model, cache_features=cache_features)
    metrics, difference = trainer.evaluate(), margins(model, held_out)
    assert metrics["eval_loss"] == pytest.approx(-log_sigmoid(difference).mean(), rel=1e-4)
    assert metrics["eval_accuracy"] == pytest.approx((difference > 0).mean())


def test_accuracy_counts_every_held_out_pair_once(tmp_path):
    """Three batches of 4, 4 and 1 pairs."""
    held_out, model = pair_rows(9, seed=5), tiny_urm(attributes=ATTRIBUTES)
    trainer = gating_trainer(tmp_path, pair_rows(), held_out, model=model, per_device_eval_batch_size=4)
    assert trainer.evaluate()["eval_accuracy"] == pytest.approx((margins(model, held_out) > 0).mean())


@WAYS
def test_another_dataset_can_be_evaluated(tmp_path, cache_features):
    other, model = pair_rows(20, seed=6), tiny_urm(attributes=ATTRIBUTES)
    kwargs = {"model": model, "cache_features": cache_features}
    trainer = gating_trainer(tmp_path, pair_rows(), pair_rows(seed=5), **kwargs)
    loss = trainer.evaluate(Dataset.from_list(other))["eval_loss"]
    assert loss == pytest.approx(-log_sigmoid(margins(model, other)).mean(), rel=1e-4)


# What changes


@WAYS
def test_only_the_gate_changes_and_all_of_it(tmp_path, cache_features):
    model = tiny_urm(attributes=ATTRIBUTES)
    before = snapshot(model)
    gating_trainer(tmp_path, pair_rows(), model=model, cache_features=cache_features).train()
    assert changed(before, model) == sorted(key for key in before if key.startswith("score.gate."))


def test_training_on_cached_hidden_states_is_training_on_tokens(tmp_path):
    states = []
    for cache_features in (True, False):
        trainer = gating_trainer(tmp_path, pair_rows(), cache_features=cache_features, max_steps=12)
        trainer.train()
        states.append(snapshot(trainer.model))
    assert_close(states[0], states[1])


def test_dropout_of_the_backbone_is_off_though_the_model_trains(tmp_path):
    backbone = tiny_backbone_config(attention_dropout=0.5)
    rows, model = pair_rows(), tiny_urm(attributes=ATTRIBUTES, backbone=backbone)
    trainer = gating_trainer(tmp_path, rows, model=model, cache_features=False, disable_dropout=False)
    assert loss_of_all(trainer).item() == pytest.approx(-log_sigmoid(margins(model, rows)).mean(), rel=1e-4)


class Perturbation(TrainerCallback):
    """Adds to one weight after the second step."""

    def __init__(self, name: str):
        self.name = name

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step == 2:
            with torch.no_grad():
                model.get_parameter(self.name).view(-1)[0] += 1e-3


@pytest.mark.parametrize("name", ["score.value.weight", "model.layers.0.self_attn.q_proj.weight"])
def test_a_frozen_weight_that_changes_is_an_error(tmp_path, name):
    trainer = gating_trainer(tmp_path, pair_rows(), callbacks=[Perturbation(name)])
    with pytest.raises(RuntimeError, match="weights outside the gate changed"):
        trainer.train()


# Caching


def spy_on_pooling(monkeypatch) -> list[tuple[int, ...]]:
    """The token sequences that pass the backbone from now on."""
    seen: list[tuple[int, ...]] = []
    for batches in (Packs, PaddedBatches):

        def spy(self, start, stop, run=batches.run):
            seen.extend(map(tuple, self.sequences[start:stop]))
            return run(self, start, stop)

        monkeypatch.setattr(batches, "run", spy)
    return seen


def test_a_conversation_that_occurs_often_is_computed_once(tmp_path, monkeypatch):
    seen = spy_on_pooling(monkeypatch)
    pair = pair_rows(1)[0]
    rows = [pair, pair, {"chosen": pair["rejected"], "rejected": pair["chosen"]}]
    gating_trainer(tmp_path, rows, rows, max_steps=6).train()
    assert len(seen) == len(set(seen)) == 2


def test_a_second_run_computes_nothing_again(tmp_path, monkeypatch):
    gating_trainer(tmp_path, pair_rows()).train()
    seen = spy_on_pooling(monkeypatch)
    gating_trainer(tmp_path, pair_rows()).train()
    assert seen == []


def test_other_weights_of_the_backbone_share_no_hidden_states(tmp_path, monkeypatch):
    gating_trainer(tmp_path, pair_rows())
    seen = spy_on_pooling(monkeypatch)
    gating_trainer(tmp_path, pair_rows(), model=tiny_urm(attributes=ATTRIBUTES, seed=1))
    assert len(seen) == 24


# What is learnt


def letters(rng: random.Random, kind: str) -> str:
    return kind * 3 + "".join(rng.choices("abcdefgh", k=2))


def rated_answers(count: int, seed: int) -> list[dict]:
    """Answers in capitals are helpful, answers in digits are deep, never both."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        helpful = rng.random() < 0.5
        prompt, answer = letters(rng, rng.choice("xy")), letters(rng, "K" if helpful else "7")
        rows.append({"text": prompt + answer + "<|im_end|>", "help": 4 * helpful, "depth": 4 * (not helpful)})
    return rows


def pairs_by_prompt(count: int, seed: int) -> list[dict]:
    """To a prompt of x the helpful answer is better, to a prompt of y the deep one."""
    rng, rows = random.Random(seed), []
    for _ in range(count):
        kind = rng.choice("xy")
        helpful, deep = letters(rng, "K"), letters(rng, "7")
        chosen, rejected = (helpful, deep) if kind == "x" else (deep, helpful)
        rows.append({"prompt": letters(rng, kind), "chosen": chosen, "rejected": rejected})
    return rows


def test_the_gate_learns_which_attribute_matters_for_which_prompt(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    rated = {"freeze_backbone": True, "num_train_epochs": 10, "weight_decay": 0.1, "learning_rate": 1e-2}
    attribute_trainer(tmp_path, rated_answers(300, 0), model=model, **rated).train()
    kwargs = {"max_steps": 120, "per_device_train_batch_size": 32, "eval_steps": 40, "learning_rate": 3e-3}
    trainer = gating_trainer(tmp_path, pairs_by_prompt(300, 1), pairs_by_prompt(200, 2), model=model, **kwargs)
    assert 0.3 < trainer.evaluate()["eval_accuracy"] < 0.7  # no fixed weights can do it
    trainer.train()
    assert trainer.evaluate()["eval_accuracy"] > 0.9


# Models


def test_a_urm_is_loaded_by_its_path(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES)
    folder = save_with_tokenizer(model, tmp_path / "urm")
    assert changed(snapshot(model), gating_trainer(tmp_path, pair_rows(), model=folder).model) == []


def test_a_trained_gate_is_saved_and_loaded(tmp_path):
    trainer = gating_trainer(tmp_path, pair_rows())
    trainer.train()
    trainer.save_model(str(tmp_path / "saved"))
    model = AutoModel.from_pretrained(tmp_path / "saved")
    assert type(model) is URMForRewardModeling
    assert changed(snapshot(trainer.model), model) == []


def test_a_model_without_a_trained_value_head_is_refused(tmp_path):
    """A causal LM would get a fresh value head, which this stage never trains."""
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(tmp_path / "lm")
    with pytest.raises(ValueError, match="URM"):
        gating_trainer(tmp_path, pair_rows(), model=str(tmp_path / "lm"))


def test_a_urm_with_fixed_weights_is_refused(tmp_path):
    model = tiny_urm(attributes=ATTRIBUTES, reward_weights=[0.5, 0.5])
    with pytest.raises(ValueError, match="fixed `reward_weights`: there is no gate to train"):
        gating_trainer(tmp_path, pair_rows(), model=model)


def test_an_adapter_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`peft_config` would have nothing to adapt"):
        gating_trainer(tmp_path, pair_rows(), peft_config=LoraConfig(target_modules=["q_proj"]))
