"""An adapter knows which weights it was trained on: another base of the same shape is not taken without a word."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.helpers.adapters import language_model, rewards, save_adapter
from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.tolerances import close
from urm_hf import URMForRewardModeling
from urm_hf.checkpoints.adapters import load_adapter, save_adapter_with_head
from urm_hf.cli import main
from urm_hf.hub.verify import verify
from urm_hf.modeling.fingerprint_urm import compute_fingerprint


@pytest.fixture
def base(tmp_path) -> Path:
    language_model(0).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def adapter(base, tmp_path) -> Path:
    model = URMForRewardModeling.from_backbone(str(base), attributes=["help", "depth"])
    return save_adapter(model, tmp_path / "adapter", 0)


def edit_json(path: Path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def fingerprint(folder: Path) -> str:
    files = {}
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            files |= dict.fromkeys(file.keys(), str(path))
    return compute_fingerprint(files)


def test_the_base_is_recorded(base, adapter):
    record = json.loads((adapter / "config.json").read_text())["adapter_base"]
    assert record == {"name": str(base), "commit": None, "fingerprint": fingerprint(base)}


def test_other_weights_in_the_same_place_are_refused(base, adapter):
    language_model(1).save_pretrained(base)
    for load in (load_adapter, rewards):
        with pytest.raises(ValueError, match=f"adapter was trained on {base}, but {base} has other weights"):
            load(str(adapter))


def test_another_base_is_named_beside_the_right_one(base, adapter, tmp_path, capsys):
    language_model(1).save_pretrained(tmp_path / "other")
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "other"))
    told = f"trained on {base}, but {tmp_path / 'other'} has other weights"
    with pytest.raises(ValueError, match=re.escape(told)):
        load_adapter(adapter)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b"}\n')
    command = ["score", str(adapter), "--data", str(tmp_path / "rows.jsonl"), "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    assert told in capsys.readouterr().err
    assert told in next(check.detail for check in verify(adapter) if check.name == "load")


def test_the_same_weights_elsewhere_and_in_other_files_are_taken(base, adapter, tmp_path):
    expected = rewards(load_adapter(adapter), tokenizer=tiny_tokenizer())
    shutil.rmtree(base)
    language_model(0).save_pretrained(tmp_path / "moved", max_shard_size="20KB")
    assert len(list((tmp_path / "moved").glob("*.safetensors"))) > 1
    edit_json(adapter / "adapter_config.json", base_model_name_or_path=str(tmp_path / "moved"))
    assert rewards(load_adapter(adapter), tokenizer=tiny_tokenizer()) == close(expected)


def test_adapters_without_a_record_load_as_before(base, adapter):
    edit_json(adapter / "config.json", adapter_base=...)
    language_model(1).save_pretrained(base)
    assert len(rewards(load_adapter(adapter), tokenizer=tiny_tokenizer())) > 0


@pytest.mark.parametrize("record", [3, [], "abc", {}, {"fingerprint": None}])
def test_a_damaged_record_is_told(adapter, record):
    edit_json(adapter / "config.json", adapter_base=record)
    with pytest.raises(ValueError, match="config.json of .*adapter is damaged: `adapter_base`"):
        load_adapter(adapter)


def test_a_copy_with_another_head_keeps_the_record(base, adapter, tmp_path):
    save_adapter_with_head(adapter, load_adapter(adapter), tmp_path / "gated")
    ours, copied = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("adapter", "gated"))
    assert copied["adapter_base"] == ours["adapter_base"]
    language_model(1).save_pretrained(base)
    with pytest.raises(ValueError, match="has other weights"):
        load_adapter(tmp_path / "gated")


def test_what_a_fingerprint_tells(base):
    """Every tensor of the decoder, its name, shape and dtype; not the head."""
    before, path = fingerprint(base), base / "model.safetensors"
    tensors = {key: tensor.clone() for key, tensor in load_file(path).items()}  # the file is mapped, and written over
    assert before == fingerprint(base)
    decoder = [key for key in tensors if not key.startswith("lm_head")]
    for key in decoder:
        changed = tensors | {key: tensors[key] + torch.full_like(tensors[key], 1e-3)}
        save_file(changed, path)
        assert fingerprint(base) != before, key
    save_file({key: tensor.bfloat16() for key, tensor in tensors.items()}, path)
    assert fingerprint(base) != before
    save_file({key + "x": tensor for key, tensor in tensors.items()}, path)
    assert fingerprint(base) != before
    save_file(tensors | {"score.weight": torch.ones(1, 3)}, path)
    assert fingerprint(base) == before


def test_tensors_of_any_shape_have_a_fingerprint(tmp_path):
    shapes = {"number": (), "nothing": (0, 3), "vector": (200,), "experts": (3, 100, 70)}
    save_file(
        {name: torch.zeros(shape, dtype=torch.bfloat16) for name, shape in shapes.items()}, tmp_path / "x.safetensors"
    )
    assert len(fingerprint(tmp_path)) == 64
