"""Published models as ours, against an evaluation written from the description of their layout."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig

from tests.helpers.published import (
    ARCHITECTURE,
    ROWS,
    evaluate,
    our_rewards,
    read_config,
    read_state,
    their_rewards,
    write_published,
    write_state,
)
from tests.helpers.tolerances import assert_close
from urm_hf import RewardScorer, URMForRewardModeling
from urm_hf.checkpoints.published import convert_published
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES, URMConfig


@pytest.mark.parametrize("shards", [1, 3])
def test_in_float32_all_numbers_are_those_of_the_published_model(tmp_path, shards):
    source = write_published(tmp_path / "in", torch.float32, shards=shards)
    result = convert_published(source, tmp_path / "out")
    assert result.attributes == HELPSTEER2_ATTRIBUTES
    expected = evaluate(source, torch.float32, torch.float32)
    model = URMForRewardModeling.from_pretrained(tmp_path / "out")
    assert max(abs(row["reward"]) for row in expected) > 1
    for row, numbers in zip(ROWS, expected, strict=True):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row]), attention_mask=torch.ones(1, len(row)))
        assert_close(output.logits[0, 0], numbers["reward"])
        assert_close(output.attribute_means[0], numbers["means"])
        assert_close(output.attribute_stds[0], numbers["log_stds"].exp())
        assert_close(output.gating_weights[0], numbers["gate"])


def test_in_float16_rewards_are_within_the_tolerance_that_servers_accept(published, tmp_path):
    convert_published(published, tmp_path / "out")
    theirs = their_rewards(published, torch.float16, torch.float16)
    torch.testing.assert_close(our_rewards(tmp_path / "out"), theirs, atol=4e-2, rtol=0)
    # and nearer to what these weights give in exact arithmetic
    exact = their_rewards(published)
    assert_close(our_rewards(tmp_path / "out", dtype=torch.float32), exact)


def test_the_backbone_keeps_its_dtype_and_the_head_is_float32(published, tmp_path):
    result = convert_published(published, tmp_path / "out")
    before, after = read_state(published), read_state(tmp_path / "out")
    body = [key for key in before if key.startswith("model.")]
    assert all(after[key].dtype == torch.float16 and torch.equal(after[key], before[key]) for key in body)
    assert {tensor.dtype for key, tensor in after.items() if key.startswith("score.")} == {torch.float32}
    assert result.dtypes == {"backbone": torch.float16, "head": torch.float32}
    assert read_config(tmp_path / "out")["dtype"] == "float16"
    assert result.parameters == sum(tensor.numel() for tensor in before.values())


def test_the_config_describes_the_model_and_brings_no_foreign_code(published, tmp_path):
    convert_published(published, tmp_path / "out", attributes=list("abcde"))
    config = URMConfig.from_pretrained(tmp_path / "out")
    assert config.attributes == list("abcde") and config.log_std_bounds is None
    assert config.architectures == ["URMForRewardModeling"]
    assert config.training == {"converted_from": {"name": published, "revision": None}}
    assert config.backbone_config.num_labels == 2 and ARCHITECTURE not in json.dumps(read_config(tmp_path / "out"))
    assert "modeling_custom" not in json.dumps(read_config(tmp_path / "out"))
    rope = LlamaConfig.from_pretrained(published).rope_parameters
    assert config.backbone_config.rope_parameters == rope and rope["rope_type"] == "llama3"


def test_tokenizer_template_and_licence_come_along_and_other_files_do_not(published, tmp_path):
    for name in ("LICENSE", "README.md", "modeling_custom.py", "pytorch_model.bin"):
        (Path(published) / name).write_text(name)
    convert_published(published, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"LICENSE", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "modeling_urm.py"} <= names
    assert not names & {"README.md", "modeling_custom.py", "pytorch_model.bin"}
    conversation = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    score = RewardScorer(str(tmp_path / "out")).score([conversation])[0]
    assert list(score.attribute_means) == HELPSTEER2_ATTRIBUTES


@pytest.mark.parametrize("pad", [None, 7])
def test_the_pad_token_is_the_published_one_or_none(tmp_path, pad):
    convert_published(write_published(tmp_path / "in", pad_token_id=pad), tmp_path / "out")
    model = URMForRewardModeling.from_pretrained(tmp_path / "out")
    assert model.config.pad_token_id == pad
    if pad is None:
        with pytest.raises(ValueError, match="`attention_mask` is missing and the model has no `pad_token_id`"):
            model(input_ids=torch.zeros(2, 3, dtype=torch.long))


def test_frequencies_that_old_files_hold_are_left_out_and_said_so(published, tmp_path):
    expected = their_rewards(published)
    write_state(published, read_state(published) | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(16)})
    result = convert_published(published, tmp_path / "out")
    assert result.notes == ["left out 1 tensors `rotary_emb.inv_freq`, which the config determines"]
    assert_close(our_rewards(tmp_path / "out", dtype=torch.float32), expected)


# Without a gate

WEIGHTS = [0.3, 0.74, 0.46, 0.47, -0.33]


def write_without_gate(folder: Path, **config) -> str:
    source = write_published(folder, torch.float32, **config)
    write_state(source, {key: tensor for key, tensor in read_state(source).items() if not key.startswith("weights.")})
    return source


@pytest.mark.parametrize("name", [ARCHITECTURE, "LlamaForSequenceClassificationWithNormal"])
def test_without_a_gate_the_reward_is_the_sum_of_weighted_means(tmp_path, name):
    source = write_without_gate(tmp_path / "in", architectures=[name])
    convert_published(source, tmp_path / "out", reward_weights=WEIGHTS)
    with_gate = write_published(tmp_path / "gated", torch.float32)  # the same weights but for the gate, by its seed
    means = torch.stack([row["means"] for row in evaluate(with_gate, torch.float32, torch.float32)])
    assert_close(our_rewards(tmp_path / "out"), means @ torch.tensor(WEIGHTS))
    assert URMConfig.from_pretrained(tmp_path / "out").reward_weights == WEIGHTS
    assert not [key for key in read_state(tmp_path / "out") if key.startswith("score.gate")]
