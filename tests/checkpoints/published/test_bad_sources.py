"""What cannot be converted is refused by name, and nothing is left."""

import shutil
import weakref
from pathlib import Path

import pytest
import torch

from tests.helpers.members import interrupt_second_shard
from tests.helpers.published import edit_config, read_config, read_state, write_published, write_state
from tests.helpers.tiny import OpenedFile
from urm_hf.checkpoints import files as checkpoint_files
from urm_hf.checkpoints.published import convert_published, convert_sglang


def without(*keys):
    return lambda state: {key: tensor for key, tensor in state.items() if key not in keys}


def with_tensor(key: str, change):
    return lambda state: state | {key: change(state.get(key))}


BAD_TENSORS = [
    (
        without(*[f"weights.fc.{k}.{kind}" for k in (0, 2, 4) for kind in ("weight", "bias")]),
        "no gate .*reward_weights",
    ),
    (without("weights.fc.4.bias"), r"missing: weights\.fc\.4\.bias\."),
    (without("score.weight", "model.norm.weight"), r"missing: model\.norm\.weight, score\.weight\."),
    (with_tensor("lm_head.weight", lambda _: torch.zeros(3)), r"unexpected: lm_head\.weight\."),
    (with_tensor("score.weight", lambda t: t[:8].clone()), r"score\.weight \[8, 64\] instead of \[10, 64\]"),
    (with_tensor("weights.fc.0.weight", lambda t: t[:48].clone()), r"weights\.fc\.0\.weight \[48, 64\] instead"),
    (with_tensor("score.weight", lambda t: t * float("nan")), r"score\.weight of .* not finite"),
    (with_tensor("model.norm.weight", lambda t: t * float("inf")), r"model\.norm\.weight of .* not finite"),
    (with_tensor("score.weight", lambda t: t.double()), r"score\.weight of .* is F64"),
    (with_tensor("model.norm.weight", lambda t: t.to(torch.int8)), r"model\.norm\.weight of .* is I8"),
]


@pytest.mark.parametrize("change, message", BAD_TENSORS)
def test_bad_tensors_are_refused_and_nothing_is_left(published, tmp_path, change, message):
    write_state(published, change(read_state(published)))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        convert_published(published, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before


BAD_CONFIGS = [
    ({"id2label": {str(i): str(i) for i in range(9)}, "label2id": {}}, "has 9 labels; .* two for each attribute"),
    ({"id2label": {"0": "a"}, "label2id": {}}, "has 1 labels"),
    (
        {"id2label": {str(i): str(i) for i in range(6)}, "label2id": {}},
        "`attributes` is missing: name the 3 attributes",
    ),
    ({"architectures": ["LlamaForSequenceClassification"]}, "has not the published layout: `architectures` is"),
    ({"architectures": None}, "has not the published layout: `architectures` is None"),
    ({"model_type": "qwen2"}, "`model_type` 'qwen2'; the published layout is a Llama"),
    ({"model_type": "urm"}, "has this package's layout already"),
    ({"quantization_config": {"quant_method": "gptq"}}, "is quantised"),
    ({"num_hidden_layers": 3}, r"missing: model\.layers\.2\..* and 4 more"),
    ({"hidden_size": 32}, "of another shape: "),
]


@pytest.mark.parametrize("changes, message", BAD_CONFIGS)
def test_bad_configs_are_refused(published, tmp_path, changes, message):
    edit_config(published, **changes)
    with pytest.raises(ValueError, match=message):
        convert_published(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("attributes", [["a", "b"], list("abcdef"), "abcde", [], list("aabcd")])
def test_attributes_that_do_not_fit_are_refused(published, tmp_path, attributes):
    with pytest.raises(ValueError, match="`attributes`"):
        convert_published(published, tmp_path / "out", attributes=attributes)


def test_weights_for_a_model_that_has_a_gate_or_of_another_number_are_refused(published, tmp_path):
    with pytest.raises(ValueError, match=r"has a gate \(weights.fc.0.bias.*leave out `reward_weights`"):
        convert_published(published, tmp_path / "out", reward_weights=[1, 1, 1, 1, 1])
    with pytest.raises(ValueError, match="`reward_weights` needs one number for each of the 5 attributes, got 2"):
        convert_published(published, tmp_path / "out", reward_weights=[1, 1])
    edit_config(published, architectures=["LlamaForCausalLM"])
    with pytest.raises(ValueError, match="has not the published layout"):
        convert_published(published, tmp_path / "out", reward_weights=[1, 1, 1, 1, 1])


def test_pickled_weights_are_refused_unread(published, tmp_path, monkeypatch):
    (Path(published) / "model.safetensors").rename(Path(published) / "pytorch_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match="pickled weights .* never loaded. Save it again with `save_pretrained`"):
        convert_published(published, tmp_path / "out")


@pytest.mark.parametrize("keep", [0, 5, 2000, -100])
def test_a_damaged_file_is_named(published, tmp_path, keep):
    path = Path(published) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        convert_published(published, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_missing_shard_is_named(tmp_path):
    source = write_published(tmp_path / "in", shards=3)
    (tmp_path / "in" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="names 'model-00002-of-00003.safetensors', which is not there"):
        convert_published(source, tmp_path / "out")


def test_folders_that_are_not_there_or_not_free(published, tmp_path):
    with pytest.raises(FileNotFoundError, match="is no folder here"):
        convert_published(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        convert_published(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="`revision` pins .* to 'v1', but it is a folder"):
        convert_published(published, tmp_path / "out", revision="v1")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder"):
        convert_published(published, tmp_path / "out")
    with pytest.raises(FileExistsError, match="exists and is not an empty folder"):
        convert_published(published, published)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]


def test_an_interruption_leaves_nothing(published, tmp_path, monkeypatch):
    interrupt_second_shard(monkeypatch, tmp_path / "out")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        convert_published(published, tmp_path / "out", max_shard_size="40KB")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("convert", [convert_published, convert_sglang])
def test_no_more_than_a_shard_of_the_backbone_is_in_memory(published, tmp_path, monkeypatch, convert):
    if convert is convert_sglang:
        convert_published(published, tmp_path / "ours")
        published = str(tmp_path / "ours")
    alive, most = {}, 0

    class Spy(OpenedFile):
        def get_tensor(self, key):
            nonlocal most
            tensor = self.file.get_tensor(key)
            if key.startswith("model."):
                alive[id(tensor)] = tensor.nbytes
                weakref.finalize(tensor, alive.pop, id(tensor))
                most = max(most, sum(alive.values()))
            return tensor

    monkeypatch.setattr(checkpoint_files, "safe_open", Spy)
    convert(published, tmp_path / "out", max_shard_size="40KB")
    body = sum(tensor.nbytes for key, tensor in read_state(published).items() if key.startswith("model."))
    assert 0 < most <= 2 * 40_000 < body


def test_a_repository_is_pinned_and_its_commit_recorded(published, tmp_path, monkeypatch):
    calls = []

    def snapshot_download(name, revision, allow_patterns, **kwargs):
        calls.append((name, revision, kwargs))
        assert not any("bin" in pattern or pattern.endswith(".py") for pattern in allow_patterns)
        return shutil.copytree(published, tmp_path / "snapshots" / "c0ffee")

    monkeypatch.setattr(checkpoint_files, "snapshot_download", snapshot_download)
    result = convert_published("org/urm", tmp_path / "out", revision="v1", token="t", local_files_only=True)
    assert calls == [("org/urm", "v1", {"token": "t", "local_files_only": True})]
    assert result.revision == "c0ffee"
    assert read_config(tmp_path / "out")["training"] == {"converted_from": {"name": "org/urm", "revision": "c0ffee"}}
