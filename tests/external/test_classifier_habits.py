"""What code written for transformers' own classifiers of one label asks of a model, asked of both."""

import pytest
import torch
from datasets import Dataset
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel, Trainer, TrainingArguments

from tests.helpers.tiny import pad_rows, random_rows, tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import assert_close, close
from urm_hf.modeling import URMForRewardModeling

LENGTHS = [5, 12, 3, 8]
BATCH = pad_rows(random_rows(LENGTHS))
LABELS = torch.tensor([0.5, -1.0, 2.0, 0.0])


def classifier_beside(urm: URMForRewardModeling) -> PreTrainedModel:
    """transformers' classifier with one label on the same backbone weights."""
    config = tiny_backbone_config(num_labels=1)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.base_model.load_state_dict(urm.model.state_dict())
    return model


def test_the_loss_of_labels_is_that_of_a_classifier_with_one_label():
    urm = tiny_urm()
    output = urm(**BATCH, labels=LABELS)
    assert output.loss.item() == close((output.logits[:, 0] - LABELS).square().mean().item())
    stock = classifier_beside(urm)
    theirs = stock.loss_function(
        logits=None, labels=LABELS, pooled_logits=output.logits, config=stock.config
    )  # the very function that transformers' classifiers call
    assert output.loss.item() == close(theirs.item())
    assert urm(**BATCH, labels=LABELS[:, None]).loss.item() == close(theirs.item())
    assert urm(**BATCH, labels=LABELS, return_dict=False)[0].item() == close(theirs.item())
    assert urm(**BATCH, return_dict=False)[0].shape == (4, 1)


@pytest.mark.parametrize("where", ["call", "config"])
def test_states_of_the_backbone_are_given_when_asked_for(where):
    urm = tiny_urm()
    urm.set_attn_implementation("eager")
    stock = classifier_beside(urm)
    stock.set_attn_implementation("eager")
    asked = {"output_hidden_states": True, "output_attentions": True}
    expected = stock(**BATCH, **asked)
    if where == "config":
        urm.config.output_hidden_states = urm.config.output_attentions = True
    found = urm(**BATCH, **(asked if where == "call" else {}))
    real = BATCH["attention_mask"].bool()
    assert len(found.hidden_states) == len(expected.hidden_states) == urm.config.num_hidden_layers + 1
    for ours, theirs in zip(found.hidden_states, expected.hidden_states, strict=True):
        assert_close(ours[real], theirs[real])  # positions of padding on the right are counted otherwise
    for ours, theirs in zip(found.attentions, expected.attentions, strict=True):
        assert ours.shape == theirs.shape
        assert_close(ours.transpose(1, 2)[real], theirs.transpose(1, 2)[real])
    without = urm(**BATCH, output_hidden_states=False, output_attentions=False)
    assert without.hidden_states is None and without.attentions is None


def test_what_could_have_no_effect_is_refused():
    urm = tiny_urm()
    with pytest.raises(ValueError, match="`use_cache=True`: a reward is read once"):
        urm(**BATCH, use_cache=True)
    with pytest.raises(ValueError, match="`pooled_hidden` stands for the backbone's run"):
        urm(pooled_hidden=torch.zeros(2, urm.config.hidden_size), output_hidden_states=True)
    assert urm(**BATCH, use_cache=False, margin=torch.zeros(4)).logits.shape == (4, 1)


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_plain_trainer_trains_it_with_labels(tmp_path, accumulation):
    rows = [
        {"input_ids": row, "attention_mask": [1] * 8, "labels": float(i % 3)}
        for i, row in enumerate(random_rows([8] * 8))
    ]
    urm = tiny_urm()
    reference = tiny_urm()
    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8 // accumulation,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=0.1,
        optim="sgd",
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = Trainer(urm, arguments, train_dataset=Dataset.from_list(rows))
    trainer.train()
    batch = {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "attention_mask")}
    labels = torch.tensor([row["labels"] for row in rows])
    loss = nn.functional.mse_loss(reference(**batch).logits[:, 0], labels)
    loss.backward()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    assert trainer.state.log_history[0]["loss"] == pytest.approx(loss.item(), rel=1e-3)  # logged with four digits
    for ours, theirs in zip(urm.state_dict().values(), reference.state_dict().values(), strict=True):
        assert_close(ours, theirs)
