"""The scorer: each conversation's own numbers, in order, whatever shares its batch."""

import sys

import numpy as np
import pytest
import torch
from transformers import LlamaForSequenceClassification

from tests.helpers.conversations import CHAT, TEXTS, outputs_alone
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScore, RewardScorer, URMEnsemble
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES

NUMBERS = ["reward", "reward_std", "attribute_variance", "covariance_norm"]
NAMED = ["attribute_means", "attribute_stds", "gating_weights"]
ENSEMBLE_ONLY = ["epistemic_variance", "reward_gap", "member_rewards"]


def plain_reward_model(**kwargs) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    return LlamaForSequenceClassification(tiny_backbone_config(num_labels=1, **kwargs)).eval()


def unsound(model, token: str):
    """The reward of whatever contains this token is not finite."""
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer()(token)["input_ids"][0]] = float("nan")
    return model


# Numbers


@pytest.mark.parametrize("budget", [1, 20, 60, 8192])
def test_scores_are_those_of_each_conversation_alone_in_the_order_given(budget):
    model = tiny_urm()
    scores = RewardScorer(model, tiny_tokenizer(), max_tokens_per_batch=budget).score(TEXTS)
    for score, output in zip(scores, outputs_alone(model, TEXTS), strict=True):
        stds = output.attribute_stds[0].double().numpy()
        assert score.reward == close(output.logits.item())
        assert score.reward_std == close(output.reward_std.item())
        assert score.attribute_variance == pytest.approx((stds**2).sum(), rel=1e-4)
        assert score.covariance_norm == pytest.approx(np.linalg.norm(np.diag(stds**2), "fro"), rel=1e-4)
        for name in NAMED:
            expected = dict(zip(HELPSTEER2_ATTRIBUTES, output[name][0].tolist()))
            assert score[name] == close(expected), name


def test_attributes_are_named_as_the_model_names_them():
    scorer = RewardScorer(tiny_urm(attributes=["clarity", "depth"]), tiny_tokenizer())
    (score,) = scorer.score(["a"])
    assert [list(score[name]) for name in NAMED] == [["clarity", "depth"]] * 3


def test_equal_conversations_have_equal_scores(scorer):
    first, *_, fifth, _ = scorer.score(TEXTS)
    assert fifth.reward == close(first.reward)
    assert scorer.score(TEXTS[1:2])[0].reward != pytest.approx(first.reward, abs=1e-2)


def test_a_score_does_not_depend_on_the_order(scorer):
    forth = [score.reward for score in scorer.score(TEXTS)]
    back = [score.reward for score in scorer.score(TEXTS[::-1])]
    assert back[::-1] == close(forth)


def test_every_form_of_a_conversation_has_one_score(scorer):
    text = tiny_tokenizer().apply_chat_template(CHAT, tokenize=False)
    forms = [
        CHAT,
        {"messages": CHAT},
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        {"prompt": CHAT[0]["content"], "response": CHAT[1]["content"]},
        text,
        {"text": text},
        {"input_ids": tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]},
    ]
    expected = outputs_alone(scorer.model, [CHAT])[0].logits.item()
    assert [score.reward for score in scorer.score(forms)] == close([expected] * len(forms))


def test_a_prompt_and_completion_of_text_are_scored_as_text(scorer):
    (score,) = scorer.score([{"prompt": "2 + 2", "completion": " = 4"}])
    expected = outputs_alone(scorer.model, ["2 + 2 = 4<|im_end|>"])[0].logits.item()
    assert score.reward == close(expected)


def test_conversations_may_come_from_a_generator(scorer):
    assert len(scorer.score(text for text in TEXTS)) == len(TEXTS)


def test_no_conversations_have_no_scores(scorer):
    assert scorer.score([]) == []


def test_the_progress_bar_is_shown_on_request(scorer, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    scorer.score(TEXTS)
    assert "Scoring" not in capsys.readouterr().err
    scorer.score(TEXTS, progress=True)
    assert "6/6" in capsys.readouterr().err


# The object that comes out


def test_fields_are_read_as_attributes_and_as_keys(scorer):
    (score,) = scorer.score(["abc"])
    assert isinstance(score, RewardScore)
    assert list(score) == [*NUMBERS[:2], *NAMED, *NUMBERS[2:], "n_tokens", "truncated"]
    assert all(score[name] == getattr(score, name) for name in score)
    assert (score.n_tokens, score.truncated) == (3, False)


def test_fields_are_plain_numbers(scorer):
    (score,) = scorer.score(["abc"])
    assert {type(score[name]) for name in NUMBERS} == {float}
    assert {type(value) for name in NAMED for value in score[name].values()} == {float}


def test_fields_of_an_ensemble_are_absent_from_a_single_model(scorer):
    (score,) = scorer.score(["abc"])
    assert [score.get(name) for name in ENSEMBLE_ONLY] == [None] * 3
    assert not set(ENSEMBLE_ONLY) & set(score)


# A reward model of another kind


def test_any_reward_model_of_one_output_is_scored_without_uncertainty():
    model = plain_reward_model()
    scores = RewardScorer(model, tiny_tokenizer()).score(TEXTS)
    expected = [output.logits.item() for output in outputs_alone(model, TEXTS)]
    assert [score.reward for score in scores] == close(expected)
    assert {tuple(score) for score in scores} == {("reward", "n_tokens", "truncated")}


@pytest.mark.parametrize("pad_token_id", [None, 0])
def test_a_reward_model_that_pads_otherwise_than_its_tokenizer_is_read_at_the_last_token(pad_token_id):
    texts = TEXTS[:4]
    expected = [output.logits.item() for output in outputs_alone(plain_reward_model(), texts)]
    scorer = RewardScorer(plain_reward_model(pad_token_id=pad_token_id), tiny_tokenizer())
    assert [score.reward for score in scorer.score(texts)] == close(expected)


# Ensembles


def test_fields_of_an_ensemble_equal_a_computation_from_its_members(ensemble):
    scores = RewardScorer(ensemble, tiny_tokenizer(), max_tokens_per_batch=50).score(TEXTS)
    members = [outputs_alone(tiny_urm(seed=seed), TEXTS) for seed in range(3)]
    for row, score in enumerate(scores):
        outputs = [member[row] for member in members]
        rewards = np.array([output.logits.item() for output in outputs])
        reward_stds = np.array([output.reward_std.item() for output in outputs])
        means = np.array([output.attribute_means[0].tolist() for output in outputs])
        stds = np.array([output.attribute_stds[0].tolist() for output in outputs])
        weights = np.array([output.gating_weights[0].tolist() for output in outputs])
        total = (stds**2).mean(0) + means.var(0)
        assert score.reward == close(rewards.mean())
        assert score.member_rewards == close(rewards.tolist())
        assert score.reward_gap == close(rewards.max() - rewards.min())
        assert score.reward_std == pytest.approx(np.sqrt((reward_stds**2).mean() + rewards.var()), rel=1e-4)
        assert score.covariance_norm == pytest.approx(max(np.sqrt((std**4).sum()) for std in stds), rel=1e-4)
        assert score.epistemic_variance == pytest.approx(means.var(0).sum(), rel=1e-4)
        assert score.attribute_variance == pytest.approx((stds**2).sum(1).mean(), rel=1e-4)
        named = {"attribute_means": means.mean(0), "attribute_stds": np.sqrt(total), "gating_weights": weights.mean(0)}
        for name, values in named.items():
            expected = dict(zip(HELPSTEER2_ATTRIBUTES, values.tolist()))
            assert score[name] == close(expected), name


def test_an_ensemble_gives_every_field(ensemble):
    (score,) = RewardScorer(ensemble).score(["abc"])
    of_one_model = {"intervals", "posterior_features"}  # of its posterior
    assert set(score) == set(RewardScore.__dataclass_fields__) - of_one_model
    assert {type(score[name]) for name in [*NUMBERS, "epistemic_variance", "reward_gap"]} == {float}
    assert [type(reward) for reward in score.member_rewards] == [float] * 3


# Errors name the row


def test_a_conversation_that_cannot_be_encoded_is_an_error_that_names_its_row(scorer):
    with pytest.raises(ValueError, match=r"row 2: message 1 \(assistant\) is empty"):
        scorer.score([CHAT, "a", [CHAT[0], {"role": "assistant", "content": ""}], CHAT])


def test_a_reward_that_is_not_finite_is_an_error_that_names_its_row():
    scorer = RewardScorer(unsound(tiny_urm(), "z"), tiny_tokenizer())
    with pytest.raises(ValueError, match="row 1: the model gave the reward nan"):
        scorer.score(["a", "z", "long enough to come first", "b"])


def test_a_reward_of_a_member_that_is_not_finite_is_an_error_that_names_row_and_member(folders):
    ensemble = URMEnsemble.from_pretrained(folders)
    unsound(ensemble.members[1], "z")
    with pytest.raises(ValueError, match=r"^rows? \[?1\b.*member-1 gave"):
        RewardScorer(ensemble).score(["a", "z", "long enough to come first", "b"])
