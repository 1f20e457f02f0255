"""
The common model tests of transformers on a URM and, beside it, on transformers' own classifier.

They are not part of this package: `python -m tests.external.run_common_tests` fetches them and runs this file.
"""

import copy
import unittest
from typing import Any

import pytest
import torch
from transformers import LlamaForSequenceClassification, PretrainedConfig
from transformers_tests.test_modeling_common import ModelTesterMixin  # type: ignore[import-not-found]

from tests.helpers.common_test_exclusions import EXCLUSIONS
from tests.helpers.tiny import tiny_backbone_config
from urm_hf.modeling import URMConfig, URMForRewardModeling


class Tester:
    """What the common tests ask of a `model_tester`: sizes, a config and a batch."""

    __test__ = False  # pytest takes it for a test by its name
    batch_size, seq_length, is_training = 4, 9, True

    def __init__(self, parent: unittest.TestCase, config: PretrainedConfig):
        self.parent, self.config = parent, config
        self.hidden_size, self.num_hidden_layers = config.hidden_size, config.num_hidden_layers
        backbone = getattr(config, "backbone_config", config)
        self.num_attention_heads = backbone.num_attention_heads

    def get_config(self) -> PretrainedConfig:
        return copy.deepcopy(self.config)

    def prepare_config_and_inputs_for_common(self) -> tuple[PretrainedConfig, dict[str, torch.Tensor]]:
        ids = torch.randint(4, 250, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class LabelledMixin(ModelTesterMixin):
    """Labels as for a classifier: the tests know those of transformers' own by their names only."""

    def _prepare_for_class(self, inputs: dict[str, Any], model_class: type, return_labels: bool = False):
        inputs = super()._prepare_for_class(inputs, model_class, return_labels=return_labels)
        if return_labels:
            inputs["labels"] = torch.zeros(Tester.batch_size)
        return inputs

    def setUp(self):
        reason = EXCLUSIONS.get(self._testMethodName)
        if reason is not None and URMForRewardModeling in self.all_model_classes:
            pytest.skip(reason)
        self.model_tester = Tester(self, self.config())


class TestURMOnLlama(LabelledMixin, unittest.TestCase):
    all_model_classes = (URMForRewardModeling,)

    def config(self) -> PretrainedConfig:
        return URMConfig(backbone_config=tiny_backbone_config())


class TestURMOnQwen3(LabelledMixin, unittest.TestCase):
    all_model_classes = (URMForRewardModeling,)

    def config(self) -> PretrainedConfig:
        return URMConfig(backbone_config=tiny_backbone_config("qwen3"))


class TestClassifierOfTransformers(LabelledMixin, unittest.TestCase):
    all_model_classes = (LlamaForSequenceClassification,)

    def config(self) -> PretrainedConfig:
        return tiny_backbone_config(num_labels=1, pad_token_id=0)  # a test shrinks the vocabulary to 10
