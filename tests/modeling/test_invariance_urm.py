"""Rewards depend neither on company nor on padding; what is done without a mask."""

import pytest
import torch

from tests.helpers.tiny import EOS, FAMILIES, PAD, pad_rows, tiny_backbone_config, tiny_urm
from tests.helpers.tolerances import assert_close
from tests.helpers.urm_numbers import ROWS, rewards_alone, run
from urm_hf.modeling import URMForRewardModeling

# Invariance: rewards of a batch against rewards of its rows alone


@pytest.fixture(scope="module", params=FAMILIES)
def family_model(request) -> URMForRewardModeling:
    return tiny_urm(request.param)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("extra", [0, 9])
def test_a_reward_depends_neither_on_company_nor_on_padding(family_model, side, extra):
    batch = pad_rows(ROWS, side, extra)
    assert_close(run(family_model, **batch).logits, rewards_alone(family_model, ROWS))


def test_rewards_follow_the_order_of_the_batch(family_model):
    forward, backward = pad_rows(ROWS), pad_rows(ROWS[::-1])
    assert_close(run(family_model, **backward).logits.flip(0), run(family_model, **forward).logits)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_reward_does_not_depend_on_the_ids_under_the_padding(family_model, side):
    batch = pad_rows(ROWS, side)
    garbage = batch["input_ids"].where(batch["attention_mask"].bool(), 17)
    masked = {"input_ids": garbage, "attention_mask": batch["attention_mask"]}
    assert_close(run(family_model, **masked).logits, rewards_alone(family_model, ROWS))


def test_a_masked_first_token_is_as_good_as_absent(family_model):
    batch = pad_rows(ROWS)  # RewardBench masks the first of two BOS in this way
    batch["attention_mask"][:, 0] = 0
    assert_close(run(family_model, **batch).logits, rewards_alone(family_model, [row[1:] for row in ROWS]))


def test_a_masked_token_inside_a_conversation_is_not_read(family_model):
    batch = pad_rows(ROWS)
    batch["attention_mask"][:, 1] = 0
    before = run(family_model, **batch).logits
    batch["input_ids"][:, 1] = 17
    assert_close(run(family_model, **batch).logits, before)


def test_a_reward_depends_on_every_token_of_its_conversation(family_model):
    for position in range(len(ROWS[0])):
        changed = list(ROWS[0])
        changed[position] = (changed[position] + 1) % 256
        rewards = rewards_alone(family_model, [ROWS[0], changed])
        assert (rewards[0] - rewards[1]).abs().item() > 1e-3, position


def test_each_family_trains_all_of_its_head_and_backbone(family_model):
    rewards = family_model(**pad_rows(ROWS)).logits
    output = family_model(**pad_rows(ROWS))
    (rewards.square().mean() + output.attribute_stds.mean()).backward()
    grads = {name: parameter.grad for name, parameter in family_model.named_parameters()}
    family_model.zero_grad()
    assert [name for name, grad in grads.items() if grad is None or not grad.isfinite().all()] == []
    assert [name for name, grad in grads.items() if not grad.any()] == []


# A missing mask


def test_without_a_mask_padding_is_found_when_pad_is_not_eos():
    model, batch = tiny_urm(), pad_rows([row + [EOS] for row in ROWS])
    assert_close(run(model, input_ids=batch["input_ids"]).logits, run(model, **batch).logits)


@pytest.mark.parametrize("eos", [PAD, [EOS, PAD]])
def test_without_a_mask_pad_equal_to_eos_is_refused(eos):
    model = tiny_urm(backbone=tiny_backbone_config(eos_token_id=eos))
    with pytest.raises(ValueError, match=rf"`pad_token_id` equals `eos_token_id` \({PAD}\).*Pass the tokenizer's"):
        model(input_ids=pad_rows(ROWS)["input_ids"])


def test_with_a_mask_pad_may_equal_eos():
    model = tiny_urm(backbone=tiny_backbone_config(eos_token_id=PAD))
    ended = [row + [PAD] for row in ROWS]
    assert_close(run(model, **pad_rows(ended)).logits, rewards_alone(model, ended))


def test_without_mask_and_pad_token_a_batch_is_refused():
    model = tiny_urm(backbone=tiny_backbone_config(pad_token_id=None))
    with pytest.raises(ValueError, match="`attention_mask` is missing and the model has no `pad_token_id`"):
        model(input_ids=pad_rows(ROWS)["input_ids"])


def test_without_mask_and_pad_token_one_conversation_is_scored():
    model = tiny_urm(backbone=tiny_backbone_config(pad_token_id=None))
    assert_close(run(model, input_ids=torch.tensor([ROWS[0]])).logits, rewards_alone(model, ROWS[:1]))


def test_without_a_mask_inputs_embeds_are_refused():
    with pytest.raises(ValueError, match="`attention_mask` is missing: with `inputs_embeds`"):
        tiny_urm()(inputs_embeds=torch.zeros(2, 3, 64))


def test_a_row_without_any_token_is_named():
    batch = pad_rows(ROWS)
    batch["attention_mask"][2] = 0
    with pytest.raises(ValueError, match="`attention_mask` has no 1 in row 2: an empty conversation has no reward"):
        tiny_urm()(**batch)


@pytest.mark.parametrize("inputs", [{}, {"input_ids": torch.ones(1, 2).long(), "inputs_embeds": torch.ones(1, 2, 64)}])
def test_exactly_one_kind_of_input_is_needed(inputs):
    with pytest.raises(ValueError, match="exactly one of `input_ids` and `inputs_embeds`"):
        tiny_urm()(**inputs, attention_mask=torch.ones(1, 2))
