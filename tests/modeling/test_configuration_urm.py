"""What a URMConfig keeps, shows to generic tools and refuses."""

import copy
import json

import pytest
from transformers import AutoConfig

from tests.helpers.tiny import BOS, EOS, FAMILIES, PAD, VOCAB_SIZE, tiny_backbone_config
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig

FIELDS = {
    "attributes": ["clarity", "depth"],
    "gating_hidden_size": 48,
    "reward_weights": [0.75, -0.25],
    "attribute_scales": {"clarity": [0.0, 4.0], "depth": [1.0, 10.0, 1.0]},
    "label_means": [2.5, 5.0],
    "label_stds": [1.25, 3.0],
    "log_std_bounds": [-3.0, 2.0],
    "attribute_loss": "mle",
    "training": {"seed": 7, "dataset": "some/data"},
}
AUTO_MAP = {
    "AutoConfig": "configuration_urm.URMConfig",
    "AutoModel": "modeling_urm.URMForRewardModeling",
    "AutoModelForSequenceClassification": "modeling_urm.URMForRewardModeling",
}


def make_config(**kwargs) -> URMConfig:
    return URMConfig(backbone_config=tiny_backbone_config(), **kwargs)


def through_dict(config: URMConfig, folder) -> URMConfig:
    return URMConfig.from_dict(config.to_dict())


def through_folder(config: URMConfig, folder) -> URMConfig:
    config.save_pretrained(folder)
    return URMConfig.from_pretrained(folder)


def through_auto_config(config: URMConfig, folder) -> URMConfig:
    config.save_pretrained(folder)
    return AutoConfig.from_pretrained(folder)


def through_deepcopy(config: URMConfig, folder) -> URMConfig:
    return copy.deepcopy(config)


ROUND_TRIPS = [through_dict, through_folder, through_auto_config, through_deepcopy]


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_every_field_survives_a_round_trip(round_trip, tmp_path):
    again = round_trip(make_config(**FIELDS), tmp_path)
    assert type(again) is URMConfig
    assert {name: getattr(again, name) for name in FIELDS} == FIELDS


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_the_backbone_config_survives_a_round_trip(family, round_trip, tmp_path):
    backbone = tiny_backbone_config(family)
    again = round_trip(URMConfig(backbone_config=backbone), tmp_path).backbone_config
    assert type(again) is type(backbone)
    assert again.to_dict() == backbone.to_dict()


def test_unbounded_log_std_survives_a_round_trip(tmp_path):
    assert through_folder(make_config(log_std_bounds=None), tmp_path).log_std_bounds is None


def test_the_defaults_are_the_paper_s_head():
    config = make_config()
    assert config.attributes == HELPSTEER2_ATTRIBUTES
    assert config.attributes == ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]
    assert config.gating_hidden_size == 64
    assert config.reward_weights is None
    assert config.label_means == [0.0] * 5
    assert config.label_stds == [1.0] * 5


def test_a_config_can_be_printed():
    assert '"model_type": "urm"' in repr(make_config())


def test_a_backbone_can_be_described_by_a_dict():
    config = URMConfig(backbone_config={"model_type": "llama", "hidden_size": 48, "num_attention_heads": 2})
    assert (config.backbone_config.model_type, config.hidden_size) == ("llama", 48)


def test_the_dict_that_describes_a_backbone_is_not_changed():
    described = tiny_backbone_config().to_dict()
    before = copy.deepcopy(described)
    URMConfig(backbone_config=described)
    assert described == before


@pytest.mark.parametrize("kwargs", [{}, {"num_labels": 1}, {"attributes": ["a", "b", "c"]}, {"attributes": ["a"]}])
def test_num_labels_is_one_whatever_the_attributes(kwargs):
    config = make_config(**kwargs)
    assert config.num_labels == 1
    assert config.id2label == {0: "reward"}
    assert config.label2id == {"reward": 0}


def test_num_labels_one_can_be_passed_while_loading(tmp_path):
    make_config(attributes=["a", "b"]).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path, num_labels=1)
    assert (config.num_labels, config.attributes) == (1, ["a", "b"])


def test_num_labels_one_can_be_set():
    config = make_config()
    config.num_labels = 1
    assert config.num_labels == 1


def set_two_labels(folder):
    make_config().num_labels = 2


def load_with_two_labels(folder):
    make_config().save_pretrained(folder)
    URMConfig.from_pretrained(folder, num_labels=2)


@pytest.mark.parametrize("give_two_labels", [set_two_labels, load_with_two_labels])
def test_two_labels_are_refused_after_construction(give_two_labels, tmp_path):
    with pytest.raises(ValueError, match=r"`num_labels=1`.*`attributes=\[\.\.\.\]`"):
        give_two_labels(tmp_path)


@pytest.mark.parametrize("kwargs", [{"num_labels": 2}, {"num_labels": 10}, {"id2label": {0: "a", 1: "b"}}])
def test_two_labels_are_refused_at_construction(kwargs):
    with pytest.raises(ValueError, match=r"`num_labels=1`.*`attributes=\[\.\.\.\]`"):
        make_config(**kwargs)


def test_the_problem_is_a_regression_even_if_another_is_passed():
    assert make_config(problem_type="single_label_classification").problem_type == "regression"


def test_a_missing_backbone_names_the_two_remedies():
    with pytest.raises(ValueError, match="`backbone_config` is missing.*from_backbone"):
        URMConfig()


def test_a_backbone_dict_without_model_type_is_refused():
    with pytest.raises(ValueError, match="needs a `model_type`.*hidden_size"):
        URMConfig(backbone_config={"hidden_size": 64})


def test_an_unknown_backbone_is_named():
    with pytest.raises(ValueError, match="nosuchmodel"):
        URMConfig(backbone_config={"model_type": "nosuchmodel"})


def test_a_multimodal_backbone_config_is_refused_with_a_hint():
    with pytest.raises(ValueError, match="LlavaConfig has no `hidden_size`.*`text_config`"):
        URMConfig(backbone_config=AutoConfig.for_model("llava"))


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"attributes": ["a", "b", "a"]}, r"`attributes` must not repeat a name, got \['a', 'b', 'a'\]"),
        ({"attributes": []}, r"`attributes` must be a non-empty list of names, got \[\]"),
        ({"attributes": ["a", ""]}, "`attributes` must be a non-empty list of names"),
        ({"attributes": [1, 2]}, r"`attributes` must be a non-empty list of names, got \[1, 2\]"),
        ({"attributes": "clarity"}, "`attributes` must be a non-empty list of names, got 'clarity'"),
        ({"reward_weights": [0.5, 0.5]}, r"`reward_weights` needs one number for each of the 5 .*got 2: \[0.5, 0.5\]"),
        ({"label_means": [0.0] * 6}, "`label_means` needs one number for each of the 5 attributes, got 6"),
        ({"label_stds": [1.0]}, "`label_stds` needs one number for each of the 5 attributes, got 1"),
        ({"label_stds": [1.0, 1.0, 0.0, 1.0, 1.0]}, r"`label_stds` must be positive and finite, got \[1.0, 1.0, 0.0"),
        ({"label_stds": [1.0, 1.0, float("nan"), 1.0, 1.0]}, "`label_stds`"),
        ({"attribute_scales": {"clarity": [0, 4]}}, "`attribute_scales` names 'clarity'.*helpfulness"),
        ({"attribute_scales": {"coherence": [4, 0]}}, r"`attribute_scales\['coherence'\]` must be .*\[4, 0\]"),
        (
            {"attribute_scales": "coherence"},
            r"`attribute_scales` must be of the form .*, got 'coherence'",
        ),
        ({"attribute_scales": {"coherence": 5}}, r"`attribute_scales\['coherence'\]` must be .*got 5"),
        ({"attribute_scales": {"coherence": ["0", "4"]}}, r"`attribute_scales\['coherence'\]` must be .*'0', '4'"),
        ({"attribute_scales": {"coherence": [0]}}, r"`attribute_scales\['coherence'\]` must be \[min, max\]"),
        ({"attribute_scales": {"coherence": [0, 4, 0]}}, r"`attribute_scales\['coherence'\]` must be .*\[0, 4, 0\]"),
        ({"log_std_bounds": [2, -2]}, r"`log_std_bounds` must be \[low, high\] with low < high, got \[2, -2\]"),
        ({"log_std_bounds": [-2, 0, 2]}, r"`log_std_bounds` must be \[low, high\].*\[-2, 0, 2\]"),
        ({"log_std_bounds": [-2]}, r"`log_std_bounds` must be \[low, high\].*\[-2\]"),
        ({"gating_hidden_size": 0}, "`gating_hidden_size` must be at least 1, got 0"),
    ],
)
def test_a_wrong_argument_is_refused_with_its_name_and_value(kwargs, message):
    with pytest.raises(ValueError, match=message):
        make_config(**kwargs)


@pytest.mark.parametrize("family", FAMILIES)
def test_generic_tools_see_the_backbone_s_sizes_and_tokens(family):
    config = URMConfig(backbone_config=tiny_backbone_config(family))
    sizes = (config.hidden_size, config.vocab_size, config.num_hidden_layers, config.max_position_embeddings)
    assert sizes == (64, VOCAB_SIZE, 2, 512)
    assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (PAD, BOS, EOS)


@pytest.mark.parametrize("name", ["pad_token_id", "bos_token_id", "eos_token_id"])
def test_a_token_written_as_trl_does_reaches_the_backbone_config(name):
    config = make_config()
    setattr(config.get_text_config(), name, 7)
    assert (getattr(config, name), getattr(config.backbone_config, name)) == (7, 7)


def test_a_written_pad_token_survives_a_round_trip(tmp_path):
    config = make_config()
    config.pad_token_id = 7
    again = through_folder(config, tmp_path)
    assert (again.pad_token_id, again.backbone_config.pad_token_id) == (7, 7)


def test_a_backbone_without_a_pad_token_gets_none():
    assert URMConfig(backbone_config=tiny_backbone_config(pad_token_id=None)).pad_token_id is None


def test_auto_map_holds_three_local_entries_in_the_saved_file(tmp_path):
    make_config().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["auto_map"] == AUTO_MAP


def test_auto_map_stays_local_when_the_config_came_from_another_repository():
    foreign = {name: f"org/other--{reference}" for name, reference in AUTO_MAP.items()}
    described = make_config().to_dict() | {"auto_map": foreign}
    assert URMConfig.from_dict(described).auto_map == AUTO_MAP


LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3 |= {"original_max_position_embeddings": 128}


@pytest.mark.parametrize(
    "family, rope, expected",
    [
        ("llama", {"rope_type": "default", "rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": None}),
        ("llama", LLAMA3 | {"rope_theta": 5e5}, {"rope_theta": 5e5, "rope_scaling": LLAMA3}),
        (
            "phi",
            {"rope_type": "default", "rope_theta": 2e4, "partial_rotary_factor": 0.25},
            {"rope_theta": 2e4, "rope_scaling": None, "partial_rotary_factor": 0.25},
        ),
    ],
)
def test_the_base_of_positions_is_written_for_transformers_4_as_well(tmp_path, family, rope, expected):
    config = URMConfig(backbone_config=tiny_backbone_config(family, rope_parameters=dict(rope)))
    config.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())["backbone_config"]
    assert {key: written[key] for key in expected} == expected
    again = URMConfig.from_pretrained(tmp_path)
    assert {key: again.backbone_config.rope_parameters[key] for key in rope} == rope
    assert again.to_dict() == config.to_dict() | {"transformers_version": again.transformers_version}
