"""Arguments of the two stages: defaults, checks, and reading them from flags and YAML."""

import ast
import dataclasses
import inspect
import json
import re
import warnings
from dataclasses import fields

import pytest
from datasets import Dataset
from transformers import HfArgumentParser
from trl import RewardConfig, TrlParser

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.training import gating_trainer, pair_rows
from urm_hf.trainers import URMAttributeConfig, URMGatingConfig, URMGatingTrainer, URMRewardConfig
from urm_hf.trainers.data_arguments import DataArguments

CONFIGS = [URMAttributeConfig, URMGatingConfig]
DEPENDENT = ["learning_rate", "weight_decay", "num_train_epochs", "per_device_train_batch_size"]


def values(config, names: list[str] = DEPENDENT) -> list:
    return [getattr(config, name) for name in names]


def from_flags(config_class, *flags: str):
    (config,) = HfArgumentParser(config_class).parse_args_into_dataclasses(["--output_dir", "out", *flags])
    return config


def test_a_trained_backbone_gets_the_paper_s_recipe():
    assert values(URMAttributeConfig("out")) == [2e-6, 1e-3, 1, 8]


def test_a_frozen_backbone_gets_the_recipe_of_heads():
    assert values(URMAttributeConfig("out", freeze_backbone=True)) == [1e-3, 10, 20, 64]


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_what_is_given_beats_both_recipes(freeze_backbone):
    given = dict(zip(DEPENDENT, [3e-4, 0.0, 2.5, 3]))
    config = URMAttributeConfig("out", freeze_backbone=freeze_backbone, **given)
    assert values(config) == [3e-4, 0.0, 2.5, 3]


def test_gradient_checkpointing_is_off_for_a_frozen_backbone_only():
    states = [URMAttributeConfig("out", freeze_backbone=frozen).gradient_checkpointing for frozen in (False, True)]
    assert states == [RewardConfig("out", bf16=False).gradient_checkpointing, False]


def test_the_gating_stage_has_the_paper_s_steps_and_batch_size():
    config = URMGatingConfig("out")
    assert (config.max_steps, config.num_train_epochs, config.per_device_train_batch_size) == (-1, 6.4, 256)
    assert 6.4 * 160_000 / 256 == 4000  # the paper's steps


@pytest.mark.parametrize("config_class", CONFIGS)
def test_the_longest_conversation_is_the_paper_s(config_class):
    assert config_class("out").max_length == 4096


@pytest.mark.parametrize("config_class", CONFIGS)
def test_bf16_needs_a_gpu_unless_it_is_asked_for(config_class, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [config_class("out").bf16, config_class("out", bf16=True, use_cpu=True).bf16] == [False, True]


@pytest.mark.parametrize("config_class", CONFIGS)
def test_every_own_argument_has_a_help_text(config_class):
    inherited = {field.name for field in fields(RewardConfig)}
    own = [field for field in fields(config_class) if field.name not in inherited]
    assert own and [field.name for field in own if not field.metadata.get("help")] == []


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"loss_type": "mse"}, "`loss_type` must be one of mle, .*got 'mse'"),
        ({"beta": 1.5}, "`beta` must be between 0 and 1, got 1.5"),
        ({"beta": -0.1}, "`beta` must be between 0 and 1, got -0.1"),
        ({"burn_in": -1}, "`burn_in` must be .*got -1"),
        ({"truncation": "middle"}, "`truncation` must be one of error, left, right, drop, got 'middle'"),
    ],
)
def test_a_bad_value_of_the_attribute_stage_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        URMAttributeConfig("out", **arguments)


def test_a_bad_value_of_the_gating_stage_is_named():
    with pytest.raises(ValueError, match="`truncation` must be one of .*got 'middle'"):
        URMGatingConfig("out", truncation="middle")


@pytest.mark.parametrize("loss_type", ["mle", "regression", "deterministic", "beta_nll", "censored_mle"])
def test_every_documented_loss_type_is_accepted(loss_type):
    assert URMAttributeConfig("out", loss_type=loss_type).loss_type == loss_type


@pytest.mark.parametrize("burn_in, steps", [(0, 0), (0.0, 0), (0.25, 50), (0.999, 200), (1, 1), (30, 30)])
def test_burn_in_is_a_number_of_steps_or_a_fraction_of_them(burn_in, steps):
    assert URMAttributeConfig("out", burn_in=burn_in).burn_in_steps(200) == steps


@pytest.mark.parametrize("config_class", CONFIGS)
def test_flags_give_the_defaults_of_the_constructor(config_class):
    flags, constructed = from_flags(config_class), config_class("out")
    names = [field.name for field in fields(config_class) if field.name not in ("logging_dir", "run_name")]
    assert values(flags, names) == values(constructed, names)


def test_attributes_are_read_from_flags():
    assert from_flags(URMAttributeConfig, "--attributes", "clarity", "depth").attributes == ["clarity", "depth"]


def test_attribute_scales_are_read_from_json():
    scales = {"clarity": [0, 4, 1], "depth": [0, 100]}
    assert from_flags(URMAttributeConfig, "--attribute_scales", json.dumps(scales)).attribute_scales == scales


def test_the_dependent_defaults_are_resolved_for_flags_too():
    config = from_flags(URMAttributeConfig, "--freeze_backbone", "--learning_rate", "0.5")
    assert values(config) == [0.5, 10, 20, 64]


@pytest.mark.parametrize("flag, expected", [("--no_standardize_labels", False), ("--standardize_labels", True)])
def test_a_switch_that_is_on_can_be_turned_off(flag, expected):
    assert from_flags(URMAttributeConfig, flag).standardize_labels is expected


def test_numbers_of_the_gating_stage_are_read_from_flags():
    config = from_flags(URMGatingConfig, "--max_steps", "7", "--patience", "3", "--cache_features", "false")
    assert (config.max_steps, config.patience, config.cache_features) == (7, 3, False)


YAML = """
output_dir: out
attributes: [clarity, depth]
attribute_scales: {clarity: [0, 4, 1]}
freeze_backbone: true
learning_rate: 0.5
"""


def from_yaml(tmp_path, *flags: str) -> URMAttributeConfig:
    path = tmp_path / "recipe.yaml"
    path.write_text(YAML)
    (config,) = TrlParser(URMAttributeConfig).parse_args_and_config(["--config", str(path), *flags])
    return config


def test_a_yaml_file_is_read(tmp_path):
    config = from_yaml(tmp_path)
    assert config.attributes == ["clarity", "depth"]
    assert config.attribute_scales == {"clarity": [0, 4, 1]}
    assert values(config) == [0.5, 10, 20, 64]


def test_a_flag_beats_the_yaml_file(tmp_path):
    config = from_yaml(tmp_path, "--learning_rate", "0.25", "--attributes", "tone")
    assert (config.learning_rate, config.attributes) == (0.25, ["tone"])


@pytest.mark.parametrize("config", [URMAttributeConfig, URMGatingConfig, URMRewardConfig, DataArguments])
def test_help_explains_each_field_with_its_type_and_default(config):
    """Ours, inherited ones included, each once: what `help(config)` shows."""
    ours = {name for base in config.__mro__ if "urm_hf" in base.__module__ for name in base.__annotations__}
    fields = {field.name: field for field in dataclasses.fields(config) if field.name in ours}
    entries = re.findall(r"^ +(\w+) \((`.*)\):\n +\S", inspect.getdoc(config) or "", flags=re.MULTILINE)
    explained = dict(entries)
    assert len(explained) == len(entries) and explained.keys() == fields.keys()
    for name, kind in explained.items():
        default = fields[name].default
        told = re.search(r"defaults to `(.*)`", kind)
        expected = None if default is dataclasses.MISSING else default
        assert (None if told is None else ast.literal_eval(told[1])) == expected, name


def test_steps_and_epochs_of_the_gate_exclude_each_other():
    with pytest.raises(ValueError, match="`max_steps=4` and `num_train_epochs=3` both say how long to train"):
        URMGatingConfig("out", max_steps=4, num_train_epochs=3)
    assert URMGatingConfig("out", num_train_epochs=3).max_steps == -1
    assert URMGatingConfig("out", max_steps=4).max_steps == 4


def test_many_passes_over_few_pairs_are_told(tmp_path, caplog):
    gating_trainer(tmp_path, pair_rows(12), max_steps=70)
    assert "`max_steps=70` of 4 rows are 23 passes over the 12 that there are" in caplog.text
    caplog.clear()
    gating_trainer(tmp_path, pair_rows(12), max_steps=60)
    assert "passes" not in caplog.text


def test_a_stream_of_pairs_has_the_papers_steps(tmp_path):
    stream = Dataset.from_list(pair_rows(12)).to_iterable_dataset()
    settings = {"use_cpu": True, "report_to": "none", "cache_features": False}
    args = URMGatingConfig(str(tmp_path), **settings)
    URMGatingTrainer(tiny_urm(), args, train_dataset=stream, processing_class=tiny_tokenizer())
    assert args.max_steps == 4000


def test_a_tracker_that_is_not_installed_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("urm_hf.trainers.configs.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"`report_to` names trackio.*`pip install trackio`.*--report_to none"):
        URMAttributeConfig("out", report_to=["trackio"])
    assert URMAttributeConfig("out", report_to="none").report_to == []


@pytest.mark.parametrize("config", [URMRewardConfig, URMAttributeConfig, URMGatingConfig])
@pytest.mark.parametrize("given", [{}, {"gradient_checkpointing": True}, {"gradient_checkpointing": False}])
def test_no_warning_tells_of_a_name_that_the_user_did_not_write(config, given):
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        args = config("out", report_to="none", gradient_checkpointing_kwargs={"use_reentrant": False}, **given)
    assert args.gradient_checkpointing == given.get("gradient_checkpointing", config is not URMGatingConfig)
    assert args.gradient_checkpointing_kwargs == {"use_reentrant": False}


@pytest.mark.parametrize("config", [URMRewardConfig, URMAttributeConfig, URMGatingConfig])
def test_no_epochs_are_no_training(config):
    with pytest.raises(ValueError, match="`num_train_epochs` must be above 0, got 0: nothing would be trained"):
        config("out", report_to="none", num_train_epochs=0)
