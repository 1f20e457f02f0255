"""Weights that are not in memory while the model is asked: where they lie must not change a reward."""

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from tests.helpers.tiny import pad_rows, random_rows, save_members, tiny_urm
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling

try:
    from transformers.quantizers.base import get_keys_to_not_convert
except ImportError:  # transformers 4
    from transformers.integrations.bitsandbytes import get_keys_to_not_convert

INPUTS = pad_rows(random_rows([9, 14]))
CONVERSATION = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    return save_members(tmp_path_factory.mktemp("models"), [tiny_urm(seed=0), tiny_urm(seed=1)])


def assert_same_output(model):
    with torch.no_grad():
        expected, actual = tiny_urm(seed=0)(**INPUTS), model(**INPUTS)
    for name in ("logits", "reward_std", "attribute_means", "attribute_stds", "gating_weights"):
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "where",
    [
        {"device_map": {"model": "cpu", "score": "disk"}},
        {"device_map": {"": "disk"}},
        {"device_map": "auto", "max_memory": {"cpu": "100KB"}},
    ],
    ids=["head on disk", "all on disk", "short memory"],
)
def test_a_device_map_with_a_disk(folders, tmp_path, where):
    model = AutoModelForSequenceClassification.from_pretrained(folders[0], offload_folder=tmp_path, **where)
    assert model.score.value.weight.device.type == "meta"
    assert_same_output(model)


@pytest.mark.parametrize("buffers", [False, True])
@pytest.mark.parametrize("to_disk", [False, True])
def test_accelerate_offloads_a_loaded_model(folders, tmp_path, to_disk, buffers):
    model = URMForRewardModeling.from_pretrained(folders[0])
    if to_disk:
        disk_offload(model, tmp_path, execution_device="cpu", offload_buffers=buffers)
    else:
        cpu_offload(model, execution_device="cpu", offload_buffers=buffers)
    assert model.score.value.weight.device.type == "meta"
    assert_same_output(model)


def test_the_scorer_and_an_ensemble_take_offloaded_models(folders, tmp_path):
    where = {"device_map": {"": "disk"}, "offload_folder": tmp_path}
    for models in (folders[0], URMEnsemble.from_pretrained(folders)):
        plain = RewardScorer(models).score([CONVERSATION])[0]
        if models is folders[0]:
            offloaded = RewardScorer(models, **where)
        else:
            offloaded = RewardScorer(URMEnsemble.from_pretrained(folders, **where))
        assert offloaded.score([CONVERSATION])[0].reward == pytest.approx(plain.reward, rel=1e-5, abs=1e-5)


def test_buffers_that_a_backbone_computes_and_does_not_save(tmp_path):
    """Falcon-H1 keeps its muP multipliers so. What memory held before must not show through."""
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 512}
    config = AutoConfig.for_model("falcon_h1", ssm_multipliers=[0.5, 0.6, 0.7, 0.8, 0.9], **shape, **heads)
    torch.manual_seed(0)
    model = URMForRewardModeling.from_backbone(AutoModel.from_config(config).eval(), attributes=["a"])
    model.save_pretrained(tmp_path)
    garbage = [torch.full((4000,), float("nan")) for _ in range(200)]
    del garbage
    loaded = URMForRewardModeling.from_pretrained(tmp_path)
    expected = dict(model.named_buffers())
    assert any(name.endswith("mup_vector") for name in expected)
    for name, buffer in loaded.named_buffers():
        torch.testing.assert_close(buffer, expected[name], rtol=0, atol=0)


def test_quantizers_leave_the_head_alone():
    """They convert linear layers but for those of one list, which they match by the beginning of the name."""
    model = tiny_urm()
    kept = [*get_keys_to_not_convert(model), *model._keep_in_fp32_modules]
    linear = [name for name, module in model.score.named_modules() if isinstance(module, torch.nn.Linear)]
    assert linear
    for name in linear:
        assert any(f"score.{name}.".startswith(f"{part}.") for part in kept), name
    assert not {*model._keep_in_fp32_modules} & {*model._keep_in_fp32_modules_strict}
