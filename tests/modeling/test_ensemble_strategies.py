"""Members in memory, one at a time, or on one backbone give the same numbers; what cannot be shared is refused."""

import gc
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.tiny import (
    pad_rows,
    random_rows,
    randomise,
    save_with_tokenizer,
    tiny_backbone_config,
    tiny_tokenizer,
)
from tests.helpers.tolerances import assert_close, close
from tests.helpers.urm_numbers import ROWS
from urm_hf import RewardScorer
from urm_hf.checkpoints.adapters import complete_adapter, is_adapter, load_adapter, save_adapter_with_head
from urm_hf.modeling import URMEnsemble, URMEnsembleConfig, URMForRewardModeling, modeling_urm_ensemble

BATCH = pad_rows(random_rows([5, 12, 3, 8]))
STRATEGIES = ["resident", "sequential", "shared"]


@pytest.fixture(scope="module")
def language_model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def frozen(language_model, tmp_path_factory) -> list[str]:
    """Three URMs on one backbone; the second's weights lie in several files."""
    folder, names = tmp_path_factory.mktemp("frozen"), []
    for seed in range(3):
        model = URMForRewardModeling.from_backbone(language_model, attributes=["help", "depth"])
        randomise(model.score.parameters(), 0.2, seed)
        model.score.set_label_statistics([float(seed), 1.0], [1.0 + seed, 2.0])
        names.append(save_with_tokenizer(model, folder / f"member-{seed}"))
        if seed == 1:
            (folder / "member-1" / "model.safetensors").unlink()
            model.save_pretrained(names[-1], max_shard_size="50KB")
            assert len(list(Path(names[-1]).glob("*.safetensors"))) > 2
    return names


@pytest.fixture(scope="module")
def adapters(language_model, tmp_path_factory) -> list[str]:
    """Three LoRA adapters of one causal LM, with heads."""
    folder, names = tmp_path_factory.mktemp("adapters"), []
    for seed in range(3):
        model = URMForRewardModeling.from_backbone(language_model, attributes=["help", "depth"])
        randomise(model.score.parameters(), 0.2, seed)
        config = LoraConfig(target_modules=["q_proj", "v_proj"], modules_to_save=["score"], r=2 + seed)
        adapted = get_peft_model(model, config)
        randomise((p for name, p in adapted.named_parameters() if "lora_B" in name), 0.3, seed)
        adapted.save_pretrained(folder / f"adapter-{seed}")
        complete_adapter(folder / f"adapter-{seed}", model.config)
        tiny_tokenizer().save_pretrained(folder / f"adapter-{seed}")
        names.append(str(folder / f"adapter-{seed}"))
    return names


@pytest.fixture(params=["frozen", "adapters"])
def members(request) -> list[str]:
    return request.getfixturevalue(request.param)


@torch.no_grad()
def outputs(ensemble: URMEnsemble):
    return ensemble(**BATCH)


@pytest.mark.parametrize("strategy", STRATEGIES[1:])
def test_every_strategy_gives_the_numbers_of_members_in_memory(members, strategy):
    expected = outputs(URMEnsemble.from_pretrained(members))
    found = outputs(URMEnsemble.from_pretrained(members, strategy=strategy))
    assert expected.rewards.std(0).min() > 0.01
    for name, value in expected.items():
        assert_close(found[name], value, msg=name)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_member_in_its_turn_gives_what_it_gives_alone(members, strategy):
    ensemble = URMEnsemble.from_pretrained(members, strategy=strategy)
    for _ in range(2):  # a second round starts from the beginning
        alone = [URMEnsemble.from_pretrained(members).members[i](**BATCH).logits for i in range(3)]
        turns = [member(**BATCH).logits for member in ensemble.iter_members()]
        assert_close(turns, alone)


def test_a_merged_adapter_is_its_member(adapters):
    expected = outputs(URMEnsemble.from_pretrained(adapters)).rewards
    merged = torch.stack([load_adapter(name)(**BATCH).logits[:, 0] for name in adapters])
    assert_close(merged, expected)


def test_sharing_holds_one_backbone(frozen, adapters):
    count = lambda model: sum(p.numel() for p in model.parameters())  # noqa: E731
    one = URMForRewardModeling.from_pretrained(frozen[0])
    assert count(URMEnsemble.from_pretrained(frozen)) == 3 * count(one)
    shared = URMEnsemble.from_pretrained(frozen, strategy="shared")
    assert shared.shares_backbone and count(shared) == count(one.model) + 3 * count(one.score)
    switched = URMEnsemble.from_pretrained(adapters, strategy="shared")
    lora = sum(p.numel() for name, p in switched.named_parameters() if "lora_" in name)
    assert lora > 0 and count(switched) - lora == count(one.model) + 4 * count(one.score)  # the base's own head too


def count_backbone_runs(ensemble: URMEnsemble) -> int:
    runs: list[int] = []
    for backbone in {id(member.model): member.model for member in ensemble.members}.values():
        backbone.register_forward_hook(lambda *_: runs.append(1))
    outputs(ensemble)
    return len(runs)


def test_a_shared_backbone_runs_once(frozen):
    assert count_backbone_runs(URMEnsemble.from_pretrained(frozen, strategy="shared")) == 1
    assert count_backbone_runs(URMEnsemble.from_pretrained(frozen)) == 3


@pytest.mark.parametrize("strategy", ["resident", "shared"])
def test_an_ensemble_hands_on_positions_and_embeddings(frozen, strategy):
    ensemble = URMEnsemble.from_pretrained(frozen, strategy=strategy)
    members = [URMForRewardModeling.from_pretrained(name).eval() for name in frozen]
    ids = torch.tensor(ROWS[:1])
    late = torch.arange(ids.shape[1])[None] * 3  # rotary: evenly spaced positions would change nothing if only shifted
    embeds = members[0].get_input_embeddings()(ids)
    mask = torch.ones_like(ids)
    with torch.no_grad():
        found = ensemble(inputs_embeds=embeds, attention_mask=mask, position_ids=late).rewards
        expected = [member(input_ids=ids, attention_mask=mask, position_ids=late).logits[:, 0] for member in members]
        plain = [member(input_ids=ids, attention_mask=mask).logits[:, 0] for member in members]
    assert_close(found, torch.stack(expected))
    assert (found - torch.stack(plain)).abs().max() > 1e-3


@pytest.mark.parametrize("asked", [{"labels": torch.zeros(1)}, {"output_hidden_states": True}])
def test_an_ensemble_refuses_what_it_has_m_of(frozen, asked):
    ensemble = URMEnsemble.from_pretrained(frozen, strategy="shared")
    with pytest.raises(ValueError, match=f"`{next(iter(asked))}`: an ensemble has M models"):
        ensemble(input_ids=torch.tensor(ROWS[:1]), attention_mask=torch.ones(1, len(ROWS[0])), **asked)


def test_one_member_at_a_time_is_in_memory(members):
    ensemble = URMEnsemble.from_pretrained(members, strategy="sequential")
    assert list(ensemble.parameters()) == []
    seen = []
    for member in ensemble.iter_members():
        assert all(sum(p.numel() for p in earlier.parameters()) == 0 for earlier in seen)
        assert sum(p.numel() for p in member.parameters()) > 0
        seen.append(member)
    gc.collect()
    assert sum(p.numel() for member in seen for p in member.parameters()) == 0


def test_the_strategy_is_a_setting_that_is_saved_and_can_be_changed(frozen, tmp_path):
    URMEnsemble.from_pretrained(frozen, strategy="shared").save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).strategy == "shared"
    assert AutoModel.from_pretrained(tmp_path, strategy="sequential").strategy == "sequential"


def test_members_in_memory_keep_their_weights(language_model):
    torch.manual_seed(1)
    models = [URMForRewardModeling.from_backbone(language_model, attributes=["help"]) for _ in range(2)]
    before = [{k: v.clone() for k, v in model.state_dict().items()} for model in models]
    URMEnsemble(URMEnsembleConfig(members=["a", "b"]), models)
    for model, state in zip(models, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_scorer_takes_every_strategy(members):
    rewards = {
        strategy: [
            score.reward
            for score in RewardScorer(URMEnsemble.from_pretrained(members, strategy=strategy)).score(["a", "b"])
        ]
        for strategy in STRATEGIES
    }
    assert rewards["sequential"] == close(rewards["resident"])
    assert rewards["shared"] == close(rewards["resident"])


# what cannot be shared


def test_members_on_unlike_backbones_are_not_shared(frozen, tmp_path, monkeypatch):
    odd = URMForRewardModeling.from_pretrained(frozen[2])
    with torch.no_grad():
        odd.model.layers[1].mlp.up_proj.weight[0, 0] += 1e-3
    other = save_with_tokenizer(odd, tmp_path / "odd")
    with monkeypatch.context() as patched:
        patched.setattr(URMForRewardModeling, "from_pretrained", lambda *args, **kwargs: pytest.fail("was loaded"))
        with pytest.raises(ValueError, match=r"differ in model.layers.1.mlp.up_proj.weight and 0 more.*sequential"):
            URMEnsemble.from_pretrained([frozen[0], other], strategy="shared")
    assert outputs(URMEnsemble.from_pretrained([frozen[0], other])).rewards.shape == (2, 4)


def test_adapters_of_unlike_bases_are_not_shared(adapters, language_model, tmp_path):
    shutil.copytree(language_model, tmp_path / "lm")
    other = shutil.copytree(adapters[1], tmp_path / "adapter")
    path = other / "adapter_config.json"
    path.write_text(path.read_text().replace(language_model, str(tmp_path / "lm")))
    with pytest.raises(ValueError, match="do not share a base"):
        URMEnsemble.from_pretrained([adapters[0], str(other)], strategy="shared")


def test_an_adapter_and_a_checkpoint_are_not_shared(adapters, frozen):
    with pytest.raises(ValueError, match="do not share a base"):
        URMEnsemble.from_pretrained([adapters[0], frozen[1]], strategy="shared")
    expected = [load_adapter(adapters[0]), URMForRewardModeling.from_pretrained(frozen[1])]
    found = outputs(URMEnsemble.from_pretrained([adapters[0], frozen[1]])).rewards
    assert_close(found, torch.stack([m(**BATCH).logits[:, 0] for m in expected]))


def test_a_pickled_adapter_is_refused(adapters, tmp_path):
    folder = shutil.copytree(adapters[1], tmp_path / "adapter")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    for strategy in STRATEGIES:
        with pytest.raises(ValueError, match="has no adapter_model.safetensors"):
            URMEnsemble.from_pretrained([adapters[0], str(folder)], strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_equal_heads_are_refused_before_scoring(members, tmp_path, strategy):
    twin = shutil.copytree(members[0], tmp_path / "twin")
    with pytest.raises(ValueError, match="equal heads"):
        URMEnsemble.from_pretrained([members[0], str(twin)], strategy=strategy)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_members_are_compared_once(members, strategy, monkeypatch):
    compared = []
    for name in ("check_configs", "check_heads"):
        usual = getattr(modeling_urm_ensemble, name)
        watched = lambda *args, usual=usual, name=name: compared.append(name) or usual(*args)  # noqa: E731
        monkeypatch.setattr(modeling_urm_ensemble, name, watched)
    URMEnsemble.from_pretrained(members, strategy=strategy)
    assert sorted(compared) == ["check_configs", "check_heads"]


# one tokenizer


def template(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("assistant", "bot")


def special_token(tokenizer):
    tokenizer.eos_token = "<|im_start|>"


def splitting(tokenizer):
    tokenizer.backend_tokenizer.normalizer = __import__("tokenizers").normalizers.Lowercase()


def vocabulary(tokenizer):
    tokenizer.add_tokens(["<extra>"])


@pytest.mark.parametrize(
    "change, named",
    [
        (template, "chat template"),
        (special_token, "eos_token"),
        (splitting, "normalizer"),
        (vocabulary, "vocabulary size"),
    ],
)
def test_members_that_read_a_conversation_differently_are_refused(frozen, tmp_path, change, named):
    odd = shutil.copytree(frozen[1], tmp_path / "odd")
    tokenizer = tiny_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(odd)
    with pytest.raises(ValueError, match=f"Members differ in their tokenizer's {named}: .*member-0 has .*odd has"):
        URMEnsemble.from_pretrained([frozen[0], str(odd)])


# adapters on disk


def test_a_gate_trained_on_the_merged_model_goes_back_into_the_adapter(adapters, tmp_path):
    model = load_adapter(adapters[0])
    randomise(model.score.gate.parameters(), 0.2, 9)
    expected = model(**BATCH).logits
    save_adapter_with_head(adapters[0], model, tmp_path / "gated")
    assert is_adapter(tmp_path / "gated") and not is_adapter(tmp_path)
    assert_close(load_adapter(tmp_path / "gated")(**BATCH).logits, expected)
    assert not torch.allclose(load_adapter(adapters[0])(**BATCH).logits, expected)
    save_adapter_with_head(tmp_path / "gated", load_adapter(adapters[0]), tmp_path / "gated")  # in place
    assert not torch.allclose(load_adapter(tmp_path / "gated")(**BATCH).logits, expected)


def test_a_head_of_another_shape_does_not_go_into_an_adapter(adapters, tmp_path):
    model = load_adapter(adapters[0])
    model.fix_reward_weights([0.5, 0.5])
    with pytest.raises(ValueError, match="head of the adapter .*gate"):
        save_adapter_with_head(adapters[0], model, tmp_path / "gated")


def test_generic_loading_of_an_ensemble_takes_the_same_settings(frozen, tmp_path):
    URMEnsemble.from_pretrained(frozen).save_pretrained(tmp_path)
    settings = {"aggregation": "min", "strategy": "shared"}
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=1, **settings)
    assert (loaded.config.aggregation, loaded.strategy) == ("min", "shared")
    assert_close(outputs(loaded).logits[:, 0], outputs(loaded).rewards.amin(0))
