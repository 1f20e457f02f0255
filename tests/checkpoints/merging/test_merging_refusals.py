"""Members that cannot be merged, each refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.helpers.members import VALUE, edit_json, edit_weights, read_state, save_member
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf import cli, merge_checkpoints


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_are_refused(members, tmp_path, count):
    with pytest.raises(ValueError, match="`checkpoints` must name at least two models"):
        merge_checkpoints(members[:count], tmp_path / "merged")


def test_one_name_is_not_taken_for_a_list(members, tmp_path):
    with pytest.raises(ValueError, match=r"must be a list of models.*merge_checkpoints\(\[.*seed-0\", "):
        merge_checkpoints(members[0], tmp_path / "merged")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"weights": [1.0]}, r"`weights` needs one entry for each of the 2 checkpoints, got \[1.0\]"),
        ({"weights": [1.5, -0.5]}, r"`weights` must be at least 0 and sum to 1, got \[1.5, -0.5\]"),
        ({"weights": [0.5, 0.6]}, r"sum to 1, got \[0.5, 0.6\] with the sum 1.1"),
        ({"weights": [0.5, 0.49999]}, "sum to 1"),
        ({"weights": [float("nan"), 1.0]}, "sum to 1"),
        ({"revisions": ["main"]}, "`revisions` needs one entry for each of the 2 checkpoints"),
        ({"gate": "second"}, '`gate` must be "average" or "first", got \'second\''),
        ({"gate": None}, '`gate` must be "average" or "first", got None'),
        ({"log_std": "geometric"}, '`log_std` must be "average", "first" or None, got \'geometric\''),
    ],
)
def test_arguments_that_do_not_fit_are_refused(members, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        merge_checkpoints(members, tmp_path / "merged", **arguments)


WIDE = tiny_backbone_config(intermediate_size=128)
CONFIGS = {
    "attributes": ({"attributes": ["a", "b"]}, r"`attributes`: .*\['a', 'b', 'c'\], .* has \['a', 'b'\]"),
    "order": ({"attributes": ["b", "a", "c"]}, r"`attributes`: .*\['a', 'b', 'c'\], .* has \['b', 'a', 'c'\]"),
    "scales": ({"attribute_scales": {"a": [0, 4]}}, r"`attribute_scales`: .* has None, .* has \{'a': \[0.0, 4.0\]\}"),
    "gate": ({"gating_hidden_size": 16}, "`gating_hidden_size`: .* has 64, .* has 16"),
    "prior": ({"reward_weights": [0.5, 0.3, 0.2]}, r"`reward_weights`: .* has None, .* has \[0.5, 0.3, 0.2\]"),
    "bounds": ({"log_std_bounds": None}, r"`log_std_bounds`: .* has \[-4.0, 4.0\], .* has None"),
    "family": ({"family": "qwen2"}, "`backbone_config"),
    "width": ({"backbone": WIDE}, "`backbone_config.intermediate_size`: .* has 96, .* has 128"),
    "eps": ({"backbone": tiny_backbone_config(rms_norm_eps=1e-5)}, "rms_norm_eps`: .* has 1e-06, .* has 1e-05"),
    "pad": ({"backbone": tiny_backbone_config(pad_token_id=3)}, "pad_token_id`: .* has 256, .* has 3"),
    "means": (
        {"label_means": [0.0, 0.5, 0.0]},
        "label_means, .* by up to 0.5 times label_stds.*standardize_labels=False",
    ),
    "stds": ({"label_stds": [1.0, 1.0, 1.5]}, "label_stds, .* by up to 0.5 times label_stds"),
    "dtype": ({"dtype": torch.bfloat16}, r"shape or dtype of model.*torch\.float32.*torch\.bfloat16"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_members_of_another_layout_are_refused(members, tmp_path, case):
    kwargs, message = CONFIGS[case]
    other = save_member(tmp_path / "other", 2, **kwargs)
    with pytest.raises(ValueError, match=f"(?s)Members differ in .*{message}"):
        merge_checkpoints([*members, other], tmp_path / "merged")


def test_a_body_that_only_regularises_otherwise_is_merged(members, tmp_path):
    backbone = tiny_backbone_config(attention_dropout=0.1, initializer_range=0.5, use_cache=False)
    merge_checkpoints([*members, save_member(tmp_path / "other", 2, backbone=backbone)], tmp_path / "merged")


def test_label_statistics_may_differ_by_rounding(tmp_path):
    folders = [save_member(tmp_path / str(i), i, label_stds=[x, 1.0, 2.0]) for i, x in enumerate((1.1, 1.1 + 4e-7))]
    merge_checkpoints(folders, tmp_path / "merged")


def extra_tensor(state):
    state["model.extra.weight"] = torch.zeros(2)


def other_shape(state):
    state["model.norm.weight"] = torch.zeros(32)


def other_features(state):
    state["score.feature_mean"] += 0.25


def other_feature_scale(state):
    state["score.feature_scale"][3] = 2.0


def nan_in_body(state):
    state["model.norm.weight"][5] = float("nan")


def infinity_in_head(state):
    state[VALUE][0, 0] = float("inf")


def quantised(state):
    state["model.norm.weight"] = torch.zeros(64, dtype=torch.int8)


def no_head(state):
    for key in [key for key in state if key.startswith("score.")]:
        del state[key]


WEIGHT_CHANGES = [
    (extra_tensor, r"Members differ in shape or dtype of model\.extra\.weight: .* has None, .* has \(\[2\]"),
    (other_shape, r"Members differ in shape or dtype of model\.norm\.weight: .* has \(\[64\].* has \(\[32\]"),
    (other_features, r"score\.feature_mean, .* by up to 0\.25 times score\.feature_scale"),
    (
        other_feature_scale,
        r"score\.feature_scale, .* by up to 1 times score\.feature_scale.*standardize_features=False",
    ),
    (nan_in_body, r"model\.norm\.weight of .*seed-1 has values that are not finite"),
    (infinity_in_head, r"score\.value\.weight of .*seed-1 has values that are not finite"),
    (quantised, r"model\.norm\.weight of .*seed-1 is I8; known are .*'BF16'"),
    (no_head, r"seed-1 has no score\.value\.weight: its head was not saved"),
]


@pytest.mark.parametrize("change, message", WEIGHT_CHANGES)
def test_tensors_that_cannot_be_averaged_are_named(members, tmp_path, change, message):
    edit_weights(members[1], change)
    with pytest.raises(ValueError, match=message):
        merge_checkpoints(members, tmp_path / "merged")


def test_equal_feature_statistics_are_kept(members, tmp_path):
    for member in members:
        edit_weights(member, other_features)
    merge_checkpoints(members, tmp_path / "merged")
    assert read_state(tmp_path / "merged")["score.feature_mean"].tolist() == [0.25] * 64


def test_two_members_with_identical_weights_are_named(members, tmp_path):
    copy = str(shutil.copytree(members[1], tmp_path / "copy"))
    with pytest.raises(ValueError, match="seed-1 and .*copy have identical weights: merging them would do nothing"):
        merge_checkpoints([*members, copy], tmp_path / "merged")


def test_members_with_the_same_head_but_another_body_are_merged(members, tmp_path):
    copy = str(shutil.copytree(members[0], tmp_path / "copy"))
    edit_weights(copy, lambda state: state["model.embed_tokens.weight"].mul_(2))
    merge_checkpoints([members[0], copy], tmp_path / "merged")


@pytest.mark.parametrize("model_type", ["llama", "urm_ensemble"])
def test_what_is_not_a_urm_is_refused(members, tmp_path, model_type):
    edit_json(Path(members[1]) / "config.json", model_type=model_type)
    with pytest.raises(ValueError, match=f"seed-1 is not a URM: its `model_type` is '{model_type}', not 'urm'"):
        merge_checkpoints(members, tmp_path / "merged")


def test_a_folder_without_config_is_refused(members, tmp_path):
    (Path(members[1]) / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match="seed-1 has no config.json. If it is an adapter, merge it"):
        merge_checkpoints(members, tmp_path / "merged")


def test_pickled_weights_are_refused_unread(members, tmp_path, monkeypatch):
    state = read_state(members[1])
    (Path(members[1]) / "model.safetensors").unlink()
    torch.save(state, Path(members[1]) / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(
        ValueError, match=r"seed-1 has neither model\.safetensors .*pickled weights \(\.bin\) are never"
    ):
        merge_checkpoints(members, tmp_path / "merged")


@pytest.mark.parametrize("file", ["model-00002-of-00002.safetensors", "../seed-0/model.safetensors"])
def test_an_index_that_names_what_is_not_in_the_folder_is_refused(members, tmp_path, file):
    (Path(members[1]) / "model.safetensors").unlink()
    index = {"weight_map": dict.fromkeys(read_state(members[0]), file)}
    (Path(members[1]) / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=f"seed-1 is incomplete: .* names '{file}'"):
        merge_checkpoints(members, tmp_path / "merged")


def emptied(path: Path):
    path.write_bytes(b"")


def cut_off(path: Path):
    path.write_bytes(path.read_bytes()[:-100])


def garbled(path: Path):
    path.write_bytes(b"\xff" * 4096)


@pytest.mark.parametrize("damage", [emptied, cut_off, garbled])
@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_file_is_named_in_one_line(members, tmp_path, capsys, file, damage):
    damage(Path(members[1]) / file)
    assert cli.main(["merge", *members, "--out", str(tmp_path / "merged")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert error[0].startswith(f"urm merge: error: {members[1]}/{file} is damaged: ")


def change_template(folder: Path):
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text() + "{# 2 #}")


def change_vocabulary(folder: Path):
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["A"], vocabulary["B"] = vocabulary["B"], vocabulary["A"]
    (folder / "tokenizer.json").write_text(json.dumps(content))


def change_bos(folder: Path):
    edit_json(folder / "tokenizer_config.json", add_bos_token=True)


def drop_tokenizer(folder: Path):
    for file in folder.glob("tokenizer*"):
        file.unlink()


TOKENIZER_CHANGES = [
    (change_template, r"chat template: .* has \.\.\., .* has \.\.\.\{# 2 #\}"),
    (change_vocabulary, r"tokenizer\.json: model"),
    (change_bos, "add_bos_token: .* has None, .* has True"),
    (drop_tokenizer, r"tokenizer\.json"),
]


@pytest.mark.parametrize("change, message", TOKENIZER_CHANGES)
def test_members_with_another_tokenizer_are_refused(members, tmp_path, change, message):
    change(Path(members[1]))
    with pytest.raises(ValueError, match=f"Members differ in the tokenizer's {message}"):
        merge_checkpoints(members, tmp_path / "merged")


def test_a_template_inside_the_tokenizer_s_config_is_the_same_template(members, tmp_path):
    template = Path(members[1]) / "chat_template.jinja"
    edit_json(Path(members[1]) / "tokenizer_config.json", chat_template=template.read_text())
    template.unlink()
    merge_checkpoints(members, tmp_path / "merged")


def test_padding_left_over_in_a_tokenizer_does_not_matter(members, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer(["a", "bcd"], padding=True, truncation=True, max_length=3)
    tokenizer.save_pretrained(members[1])
    merge_checkpoints(members, tmp_path / "merged")
