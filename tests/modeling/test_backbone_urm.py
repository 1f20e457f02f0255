"""The decoder that fresh heads are put on: of causal LMs, reward models and adapters; compared with peft's merge."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, FineGrainedFP8Config

from tests.helpers.tiny import randomise, tiny_backbone_config, tiny_urm
from urm_hf import URMForRewardModeling
from urm_hf.modeling import backbone_urm
from urm_hf.trainers.loading import load_urm

CLASSES = {
    "CAUSAL_LM": AutoModelForCausalLM,
    "SEQ_CLS": AutoModelForSequenceClassification,
    "FEATURE_EXTRACTION": AutoModel,
}
ARGS = {"seed": 0, "model_init_kwargs": None, "trust_remote_code": False}


def save_base(folder: Path, auto, family: str = "llama", **kwargs) -> str:
    torch.manual_seed(0)
    auto.from_config(tiny_backbone_config(family, **kwargs)).save_pretrained(folder)
    return str(folder)


def save_adapter(folder: Path, base: str, auto, task: str | None, target="q_proj", **kwargs) -> str:
    """A LoRA adapter with large random weights, its trained copies of whole modules included."""
    torch.manual_seed(1)
    config = LoraConfig(task_type=task, r=4, target_modules=[target, "v_proj"], **kwargs)
    model = get_peft_model(auto.from_pretrained(base), config)
    randomise((parameter for parameter in model.parameters() if parameter.requires_grad), 0.3, seed=0)
    model.save_pretrained(folder)
    return str(folder)


def merged(base: str, adapter: str, auto, **kwargs) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(auto.from_pretrained(base, **kwargs), adapter).merge_and_unload()
    return model.base_model.state_dict()


def assert_equal_states(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]):
    assert ours.keys() == theirs.keys()
    assert [
        key for key in ours if ours[key].dtype != theirs[key].dtype or not torch.equal(ours[key], theirs[key])
    ] == []


@pytest.fixture
def lora(tmp_path) -> str:
    """The folder of an adapter of the causal LM beside it."""
    base = save_base(tmp_path / "base", AutoModelForCausalLM)
    return save_adapter(tmp_path / "adapter", base, AutoModelForCausalLM, "CAUSAL_LM")


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("task", CLASSES)
def test_an_adapter_is_merged_as_peft_merges_it(tmp_path, task, named):
    auto, labels = CLASSES[task], {"num_labels": 1} if task == "SEQ_CLS" else {}
    base = save_base(tmp_path / "base", auto, **labels)
    adapter = save_adapter(tmp_path / "adapter", base, auto, task if named else None)
    model = URMForRewardModeling.from_backbone(adapter, attributes=["a", "b"])
    assert_equal_states(model.model.state_dict(), merged(base, adapter, auto))
    before = AutoModel.from_pretrained(base).state_dict()
    assert not torch.equal(
        model.model.state_dict()["layers.1.self_attn.q_proj.weight"], before["layers.1.self_attn.q_proj.weight"]
    )
    assert not any("lora" in name for name, _ in model.named_modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_was_merged_is_saved_and_loaded_whole(lora, tmp_path):
    model = URMForRewardModeling.from_backbone(lora, attributes=["a", "b"])
    model.save_pretrained(tmp_path / "urm")
    assert not (tmp_path / "urm" / "adapter_config.json").exists()
    again = URMForRewardModeling.from_pretrained(tmp_path / "urm")
    assert_equal_states(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("family, target", [("qwen2", "q_proj"), ("gpt2", "c_attn")])
def test_other_families(tmp_path, family, target):
    base = save_base(tmp_path / "base", AutoModelForCausalLM, family)
    adapter = save_adapter(
        tmp_path / "adapter", base, AutoModelForCausalLM, "CAUSAL_LM", target, fan_in_fan_out=family == "gpt2"
    )
    model = URMForRewardModeling.from_backbone(adapter, attributes=["a"])
    assert_equal_states(model.model.state_dict(), merged(base, adapter, AutoModelForCausalLM))


def test_modules_that_were_trained_whole_are_taken(tmp_path):
    base = save_base(tmp_path / "base", AutoModelForCausalLM)
    kwargs = {"modules_to_save": ["embed_tokens"]}
    adapter = save_adapter(tmp_path / "adapter", base, AutoModelForCausalLM, "CAUSAL_LM", **kwargs)
    model = URMForRewardModeling.from_backbone(adapter, attributes=["a"])
    assert_equal_states(model.model.state_dict(), merged(base, adapter, AutoModelForCausalLM))
    assert not torch.equal(model.model.embed_tokens.weight, AutoModel.from_pretrained(base).embed_tokens.weight)


@pytest.mark.parametrize("labels", [1, 3])
def test_a_reward_model_s_adapter_on_a_causal_lm_leaves_its_score_behind(tmp_path, labels, caplog):
    base = save_base(tmp_path / "base", AutoModelForCausalLM)
    classifier = AutoModelForSequenceClassification.from_pretrained(base, num_labels=labels)
    config = LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["q_proj"], modules_to_save=["score"])
    model = get_peft_model(classifier, config)
    randomise((parameter for parameter in model.parameters() if parameter.requires_grad), 0.3, seed=0)
    model.save_pretrained(tmp_path / "adapter")
    with caplog.at_level(logging.WARNING, logger="transformers"):
        ours = URMForRewardModeling.from_backbone(str(tmp_path / "adapter"), attributes=["a"])
    assert_equal_states(ours.model.state_dict(), model.merge_and_unload().base_model.state_dict())
    assert "with " in caplog.text and "not in its decoder: ['score.weight']" in caplog.text


def test_the_lm_head_that_is_discarded_is_logged(lora, caplog):
    URMForRewardModeling.from_backbone(lora, attributes=["a"])
    assert f"with {lora} not in its decoder: ['lm_head.weight']" in caplog.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_is_that_of_the_base_and_the_merge_rounds_as_peft_s(lora, tmp_path, dtype):
    model = URMForRewardModeling.from_backbone(lora, attributes=["a"], dtype=dtype)
    assert_equal_states(
        model.model.state_dict(), merged(str(tmp_path / "base"), lora, AutoModelForCausalLM, dtype=dtype)
    )
    assert model.score.value.weight.dtype == torch.float32


def test_the_attribute_stage_takes_an_adapter(lora, tmp_path):
    model = load_urm(lora, SimpleNamespace(**ARGS), attributes=["a"])
    assert_equal_states(model.model.state_dict(), merged(str(tmp_path / "base"), lora, AutoModelForCausalLM))


def test_revisions_are_those_of_the_adapter_and_of_its_base(lora, tmp_path, monkeypatch):
    config = json.loads((Path(lora) / "adapter_config.json").read_text())
    (Path(lora) / "adapter_config.json").write_text(json.dumps(config | {"revision": "base-commit"}))
    seen = []

    def from_pretrained(name, **kwargs):
        seen.append((name, kwargs.get("revision"), kwargs.get("token"), kwargs.get("trust_remote_code")))
        return AutoModelForCausalLM.from_pretrained(name, output_loading_info=True)

    monkeypatch.setattr(backbone_urm, "_base_class", lambda config: SimpleNamespace(from_pretrained=from_pretrained))
    kwargs = {"revision": "adapter-commit", "token": "t", "trust_remote_code": True}
    URMForRewardModeling.from_backbone(lora, attributes=["a"], **kwargs)
    assert seen == [(str(tmp_path / "base"), "base-commit", "t", True)]


# Refusals


def change_tensors(adapter: str, change):
    path = Path(adapter) / "adapter_model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


def change_config(folder: str, file: str = "adapter_config.json", **changes):
    path = Path(folder) / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_missing_and_foreign_tensors_are_errors(lora):
    change_tensors(lora, lambda state: dict(list(state.items())[1:]))
    with pytest.raises(ValueError, match="does not fit its model .*: missing .*lora_A"):
        URMForRewardModeling.from_backbone(lora)
    change_tensors(lora, lambda state: {key.replace("layers.0", "layers.7"): t for key, t in state.items()})
    with pytest.raises(ValueError, match="does not fit its model .*layers.7"):
        URMForRewardModeling.from_backbone(lora)


def test_a_base_that_lacks_weights_is_an_error(lora, tmp_path):
    path = tmp_path / "base" / "model.safetensors"
    state = load_file(path)
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="lacks weights of its decoder: model.layers.1.mlp.up_proj.weight"):
        URMForRewardModeling.from_backbone(lora)


def test_a_base_that_is_not_there_is_named(lora, tmp_path):
    shutil.rmtree(tmp_path / "base")
    with pytest.raises((OSError, ValueError), match=str(tmp_path / "base")):  # ValueError: huggingface_hub below 1
        URMForRewardModeling.from_backbone(lora)
    (tmp_path / "base").mkdir()
    with pytest.raises(FileNotFoundError, match="is an adapter of .*base, where there is no config.json"):
        URMForRewardModeling.from_backbone(lora)
    change_config(lora, base_model_name_or_path=None)
    with pytest.raises(ValueError, match="has no `base_model_name_or_path`"):
        URMForRewardModeling.from_backbone(lora)


def test_a_model_beside_its_adapter_is_refused(lora, tmp_path):
    """transformers would load the one with the other, and the adapter would count twice."""
    for path in (tmp_path / "base").iterdir():
        shutil.copy(path, lora)
    with pytest.raises(ValueError, match="holds a model and an adapter: put the adapter into a folder of its own"):
        URMForRewardModeling.from_backbone(lora)


def test_an_adapter_of_a_urm_says_how_to_load_it(tmp_path):
    tiny_urm(attributes=["a"]).save_pretrained(tmp_path / "urm")
    model = get_peft_model(
        URMForRewardModeling.from_pretrained(tmp_path / "urm"), LoraConfig(r=4, target_modules=["q_proj"])
    )
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match=r"is an adapter of a URM, .*load_adapter\('.*adapter'\)"):
        URMForRewardModeling.from_backbone(str(tmp_path / "adapter"))


def test_an_adapter_of_the_published_layout_is_refused(lora, tmp_path):
    change_config(tmp_path / "base", "config.json", architectures=["LlamaForSequenceClassificationWithNormal_Weights"])
    with pytest.raises(ValueError, match="base is a URM in the published layout"):
        URMForRewardModeling.from_backbone(lora)


def test_quantised_bases_are_refused(lora, tmp_path):
    with pytest.raises(ValueError, match="merged into quantised weights"):
        URMForRewardModeling.from_backbone(lora, quantization_config=FineGrainedFP8Config())
    change_config(tmp_path / "base", "config.json", quantization_config={"quant_method": "gptq"})
    with pytest.raises(ValueError, match="base, which .* is an adapter of, is quantised"):
        URMForRewardModeling.from_backbone(lora)


def test_virtual_tokens_cannot_be_merged(tmp_path):
    base = save_base(tmp_path / "base", AutoModelForCausalLM)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="virtual tokens cannot be merged"):
        URMForRewardModeling.from_backbone(str(tmp_path / "adapter"))


def test_other_tasks_are_refused(lora):
    change_config(lora, task_type="TOKEN_CLS")
    with pytest.raises(ValueError, match="task 'TOKEN_CLS'"):
        URMForRewardModeling.from_backbone(lora)


def test_pickled_adapters_are_refused_unread(lora, monkeypatch):
    (Path(lora) / "adapter_model.safetensors").rename(Path(lora) / "adapter_model.bin")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("unpickled"))
    with pytest.raises(ValueError, match="has no adapter_model.safetensors; pickled weights .* are never loaded"):
        URMForRewardModeling.from_backbone(lora)


def test_without_peft_the_package_to_install_is_named(lora, monkeypatch):
    def import_module(name):
        raise ImportError(name)

    monkeypatch.setattr(backbone_urm, "import_module", import_module)
    with pytest.raises(ImportError, match="is an adapter of .*base: `pip install peft`"):
        URMForRewardModeling.from_backbone(lora)
