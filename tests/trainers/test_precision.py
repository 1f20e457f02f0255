"""Weights that train are float32: in 16 bits small updates would be rounded away."""

import pytest
import torch

from tests.helpers.tiny import tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, rated_rows
from urm_hf.trainers.precision import check_master_weights


def bfloat16_urm():
    model = tiny_urm(attributes=ATTRIBUTES)
    model.model.to(torch.bfloat16)
    return model


def test_updates_of_a_learning_rate_of_2e_6_are_rounded_away_in_bfloat16():
    weights = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) + 0.1
    for dtype, moved in ((torch.float32, 1.0), (torch.bfloat16, 0.0)):
        stored = weights.to(dtype)
        share = (stored + 2e-6 != stored).float().mean()
        assert share == pytest.approx(moved, abs=0.05)


def test_a_backbone_in_16_bits_is_not_trained(tmp_path):
    with pytest.raises(ValueError, match=r"tensors that train are bfloat16 \(model\..*dtype=\"float32\".*`bf16=True`"):
        attribute_trainer(tmp_path, rated_rows(), model=bfloat16_urm())


def test_heads_on_a_frozen_backbone_in_16_bits_are(tmp_path):
    attribute_trainer(tmp_path, rated_rows(), model=bfloat16_urm(), freeze_backbone=True, max_steps=1).train()


def test_where_shards_keep_float32_copies_nothing_is_refused():
    check_master_weights(bfloat16_urm(), sharded=True)
