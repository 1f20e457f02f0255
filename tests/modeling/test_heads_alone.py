"""Checkpoints of heads alone: what they hold, what they load, and what they refuse."""

import copy
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, AutoModelForCausalLM

from tests.helpers.heads_alone import build_heads, save_heads, save_language_model
from tests.helpers.tiny import WITHOUT_PACKAGE, pad_rows, random_rows, save_with_tokenizer, tiny_backbone_config
from urm_hf import RewardScorer, URMEnsemble, merge_checkpoints
from urm_hf.modeling import URMForRewardModeling

INPUTS = pad_rows(random_rows([5, 9, 3]))


@pytest.fixture
def base(tmp_path) -> str:
    return save_language_model(tmp_path / "base")


@torch.no_grad()
def rewards(model) -> torch.Tensor:
    return model(**INPUTS).logits


def keys(folder: str) -> set[str]:
    with safe_open(Path(folder) / "model.safetensors", framework="pt") as file:
        return set(file.keys())


def test_the_heads_alone_are_saved_and_loaded_on_their_backbone(base, tmp_path):
    model, folder = build_heads(base), save_heads(base, tmp_path / "urm")
    assert keys(folder) == {f"score.{name}" for name in model.score.state_dict()}
    for load in (URMForRewardModeling, AutoModel):
        loaded = load.from_pretrained(folder)
        assert loaded.dtype == torch.float32 and not loaded.training  # in which the heads were saved, not bfloat16
        assert rewards(loaded).equal(rewards(model))
    assert RewardScorer(folder).model.config.base_weights["name"] == base
    again = tmp_path / "again"
    loaded.save_pretrained(again)
    assert keys(again) == keys(folder)


def test_a_process_without_the_package_loads_them(base, tmp_path):
    folder = save_heads(base, tmp_path / "urm")
    program = (
        WITHOUT_PACKAGE
        + f"""
import json, torch
from transformers import AutoModel
model = AutoModel.from_pretrained({folder!r}, trust_remote_code=True)
ids = torch.tensor({INPUTS["input_ids"].tolist()})
mask = torch.tensor({INPUTS["attention_mask"].tolist()})
with torch.no_grad():
    print(json.dumps(model(input_ids=ids, attention_mask=mask).logits.tolist()))
"""
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    found = torch.tensor(json.loads(result.stdout.splitlines()[-1]))
    torch.testing.assert_close(found, rewards(build_heads(base)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("change", ["trained", "rounded"])
def test_a_backbone_that_was_changed_is_saved_whole(base, tmp_path, change):
    model = URMForRewardModeling.from_pretrained(save_heads(base, tmp_path / "urm"))
    if change == "trained":
        model(**INPUTS).logits.sum().backward()
        torch.optim.AdamW(model.parameters(), lr=1e-3).step()
    else:
        model.model.half()
    expected = rewards(model)
    model.save_pretrained(tmp_path / "whole")
    assert keys(tmp_path / "whole") == set(model.state_dict())
    shutil.rmtree(base)  # not needed any more
    loaded = URMForRewardModeling.from_pretrained(tmp_path / "whole")
    torch.testing.assert_close(rewards(loaded), expected, rtol=1e-3, atol=1e-4)


def test_a_copy_saves_its_heads_alone_too(base, tmp_path):
    loaded = URMForRewardModeling.from_pretrained(save_heads(base, tmp_path / "urm"))
    copy.deepcopy(loaded).save_pretrained(tmp_path / "b")
    assert all(key.startswith("score.") for key in keys(tmp_path / "b"))


def test_other_weights_of_the_base_are_refused(base, tmp_path):
    folder = save_heads(base, tmp_path / "urm")
    other = AutoModelForCausalLM.from_pretrained(base)
    other.model.layers[1].mlp.up_proj.weight.data += 0.01
    other.save_pretrained(base)
    with pytest.raises(ValueError, match="trained on .*base, which now has other weights"):
        URMForRewardModeling.from_pretrained(folder)
    shutil.rmtree(base)
    with pytest.raises(OSError, match="holds heads alone.*there is no such folder.*`base_weights`"):
        AutoModel.from_pretrained(folder)


@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_heads_that_do_not_fit_are_named(base, tmp_path, change):
    from safetensors.torch import load_file, save_file

    folder = save_heads(base, tmp_path / "urm")
    tensors = load_file(Path(folder) / "model.safetensors")
    weight = tensors.pop("score.value.weight")
    tensors |= {"score.value.weight": weight[:1].clone()} if change == "misshapen" else {}
    save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"do not fit its config.*{change} .*score.value.weight"):
        URMForRewardModeling.from_pretrained(folder)


def test_members_on_one_base_share_it_and_on_others_do_not(base, tmp_path):
    members = [save_heads(base, tmp_path / f"member-{seed}", seed) for seed in range(3)]
    ensemble = URMEnsemble.from_pretrained(members, strategy="shared")
    assert ensemble.shares_backbone
    expected = torch.stack([rewards(build_heads(base, seed))[:, 0] for seed in range(3)])
    with torch.no_grad():
        found = ensemble(**INPUTS).rewards
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    whole = build_heads(base, 5)
    whole.refer_to_base(None)
    save_with_tokenizer(whole, tmp_path / "whole")
    mixed = [members[0], str(tmp_path / "whole")]
    with pytest.raises(ValueError, match="needs one backbone, but .*that of .*whole is its own"):
        URMEnsemble.from_pretrained(mixed, strategy="shared")
    assert not URMEnsemble.from_pretrained(mixed).shares_backbone


@pytest.mark.parametrize("value", ["org/base", {"name": "org/base"}, {"name": 3, "fingerprint": "a"}])
def test_a_damaged_reference_is_named(base, value):
    from urm_hf import URMConfig

    with pytest.raises(ValueError, match="`base_weights` needs a name, a commit and a fingerprint"):
        URMConfig(tiny_backbone_config(), base_weights=value)


def test_heads_on_one_backbone_are_merged_alone(base, tmp_path):
    folders = [save_heads(base, tmp_path / f"seed-{seed}", seed) for seed in range(2)]
    result = merge_checkpoints(folders, tmp_path / "merged", log_std="average")
    assert keys(str(tmp_path / "merged")) == keys(folders[0]) and "body" not in result.differences
    merged, *members = (URMForRewardModeling.from_pretrained(x) for x in (tmp_path / "merged", *folders))
    mean = (members[0].score.value.weight + members[1].score.value.weight) / 2
    torch.testing.assert_close(merged.score.value.weight, mean)
    assert torch.equal(merged.model.embed_tokens.weight, members[0].model.embed_tokens.weight)
    assert merged.config.base_weights == members[0].config.base_weights
    whole = build_heads(base, seed=3)
    whole.refer_to_base(None)
    save_with_tokenizer(whole, tmp_path / "whole")
    with pytest.raises(ValueError, match="Members differ in their backbone: .* held by the model"):
        merge_checkpoints([folders[0], tmp_path / "whole"], tmp_path / "unlike", log_std="average")
