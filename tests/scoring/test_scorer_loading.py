"""What the scorer loads by name, and arguments that it refuses."""

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from tests.helpers.conversations import CHAT, outputs_alone
from tests.helpers.tiny import PAD, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble


@pytest.mark.parametrize("kind", [str, Path])
def test_a_model_is_loaded_by_its_folder_with_its_tokenizer(folders, kind):
    scores = RewardScorer(kind(folders[0])).score([CHAT, "a"])
    expected = [output.logits.item() for output in outputs_alone(tiny_urm(), [CHAT, "a"])]
    assert [score.reward for score in scores] == close(expected)


def test_a_saved_ensemble_is_loaded_by_its_folder_with_the_tokenizer_of_its_members(ensemble, tmp_path):
    ensemble.save_pretrained(tmp_path)
    expected = RewardScorer(ensemble, tiny_tokenizer()).score([CHAT])[0]
    score = RewardScorer(str(tmp_path)).score([CHAT])[0]
    assert set(score) == set(expected)
    for name in expected:
        assert score[name] == pytest.approx(expected[name]), name


def test_the_tokenizer_of_an_ensemble_is_of_the_revision_of_its_first_member(folders, monkeypatch):
    ensemble, seen = URMEnsemble.from_pretrained(folders), {}
    ensemble.config.revisions = ["v1", None, None]

    def recording(name, **kwargs):
        seen.update(name=name, revision=kwargs.get("revision"))
        return tiny_tokenizer()

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", recording)
    RewardScorer(ensemble)
    assert seen == {"name": folders[0], "revision": "v1"}


def test_a_model_is_loaded_in_the_dtype_that_is_named(folders):
    assert RewardScorer(folders[0], dtype=torch.bfloat16).model.model.dtype == torch.bfloat16


def test_a_model_is_scored_in_eval_mode():
    model = tiny_urm(backbone=tiny_backbone_config("gpt2", resid_pdrop=0.5)).train()
    first, second = (RewardScorer(model, tiny_tokenizer()).score(["abc"])[0].reward for _ in range(2))
    assert first == second and not model.training


def test_dropping_conversations_is_refused():
    with pytest.raises(ValueError, match='"drop".*would lose rows'):
        RewardScorer(tiny_urm(), tiny_tokenizer(), truncation="drop")


def test_an_unknown_truncation_is_refused():
    with pytest.raises(ValueError, match="`truncation` must be one of .*got 'middle'"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), truncation="middle")


@pytest.mark.parametrize("budget", [0, -1])
def test_a_budget_without_tokens_is_refused(budget):
    with pytest.raises(ValueError, match=f"`max_tokens_per_batch` must be positive, got {budget}"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), max_tokens_per_batch=budget)


def test_arguments_for_loading_are_refused_beside_a_loaded_model():
    with pytest.raises(ValueError, match=r"\['dtype'\] are for loading a model by name"):
        RewardScorer(tiny_urm(), tiny_tokenizer(), dtype=torch.bfloat16)


def test_a_folder_that_is_missing_is_an_error_that_names_it(tmp_path):
    with pytest.raises(OSError, match="absent"):
        RewardScorer(str(tmp_path / "absent"))


def test_padding_with_a_token_of_the_text_changes_no_reward():
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.eos_token
    model = tiny_urm()
    assert tokenizer.pad_token_id != PAD
    scores = RewardScorer(model, tokenizer).score([CHAT, "a<|im_end|>", "b"])
    expected = [output.logits.item() for output in outputs_alone(model, [CHAT, "a<|im_end|>", "b"])]
    assert [score.reward for score in scores] == close(expected)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"device": "cuda"}, "`device` is called `device_map`"),
        ({"dtype": "float8"}, "`dtype` must be auto, float32, bfloat16 or float16, got 'float8'"),
        ({"dtype": "nn"}, "`dtype` must be"),  # a name of torch, and no precision
        ({"device_map": "gpu"}, "there is no device 'gpu': they are called cpu, cuda"),
        ({"device_map": {"": "cuda:99"}}, "there is no device 'cuda:99': PyTorch sees"),
        ({"aggregation": "min"}, "`aggregation` is of an ensemble, and .* is one model"),
        ({"strategy": "shared"}, "`strategy` is of an ensemble"),
    ],
)
def test_arguments_of_loading_are_not_told_as_damage(folders, arguments, told):
    with pytest.raises(ValueError, match=told):
        RewardScorer(folders[0], **arguments)


def test_what_loading_takes_is_let_through(folders):
    for arguments in ({"device_map": {"": "cpu"}}, {"dtype": "auto"}, {"dtype": "bfloat16", "device_map": "cpu"}):
        assert RewardScorer(folders[0], **arguments).score([CHAT])
    assert RewardScorer(folders[:2], aggregation="min").score([CHAT])


def test_a_folder_around_models_names_them(folders, tmp_path):
    around = str(Path(folders[0]).parent)
    with pytest.raises(ValueError, match=f"holds no model: it has no config.json. Name one of those.*{folders[0]}"):
        RewardScorer(around)
    with pytest.raises(ValueError, match="holds no model: it has no config.json.$"):
        RewardScorer(tmp_path)
