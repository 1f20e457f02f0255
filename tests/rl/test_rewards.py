"""Reward functions: their arithmetic, what they log, what they refuse."""

import inspect
from statistics import NormalDist

import numpy as np
import pytest
import torch
from accelerate import PartialState
from transformers import AutoModelForSequenceClassification

from tests.helpers.reward_server import running_server
from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.rl.completions import PLAIN_TEXT
from urm_hf.rl.rewards import (
    AttributeRewards,
    LowerConfidenceBoundReward,
    UncertaintyFilteredReward,
    UncertaintyPenalizedReward,
)

PROMPTS = [[{"role": "user", "content": f"Question {k}?"}] for k in range(4)]
COMPLETIONS = [[{"role": "assistant", "content": "x" * (3 * k + 1)}] for k in range(4)]
ROWS = [{"prompt": p, "completion": c} for p, c in zip(PROMPTS, COMPLETIONS)]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("members")
    return [save_with_tokenizer(tiny_urm(seed=seed), folder / str(seed)) for seed in range(3)]


@pytest.fixture(scope="module")
def scorer(members) -> RewardScorer:
    return RewardScorer(URMEnsemble.from_pretrained(members))


class Log:
    """What a trainer would be told."""

    def __init__(self):
        self.metrics, self.extra = {}, {}

    def call(self, reward, prompts=PROMPTS, completions=COMPLETIONS, **kwargs):
        metric, extra = self.metrics.__setitem__, self.extra.__setitem__
        ids = [[1]] * len(prompts)
        return reward(prompts=prompts, completions=completions, completion_ids=ids, log_metric=metric, log_extra=extra,
                      **kwargs)  # fmt: skip


FIELDS = {
    "reward_gap": "reward_gap",
    "covariance_norm": "covariance_norm",
    "attribute_variance": "attribute_variance",
    "reward_std": "reward_std",
    "epistemic": "epistemic_variance",
}


@pytest.mark.parametrize(("measure", "field"), FIELDS.items())
def test_a_penalty_is_subtracted(scorer, measure, field):
    scores = scorer.score(ROWS)
    rewards = UncertaintyPenalizedReward(scorer, measure, 0.7)(PROMPTS, COMPLETIONS)
    assert rewards == close([score.reward - 0.7 * score[field] for score in scores])
    assert len({round(score[field], 4) for score in scores}) == 4


def test_a_lower_bound_is_exceeded_with_its_probability(scorer):
    scores = scorer.score(ROWS)
    for confidence in (0.5, 0.9, 0.99):
        bounds = LowerConfidenceBoundReward(scorer, confidence)(PROMPTS, COMPLETIONS)
        exceeded = [1 - NormalDist(s.reward, s.reward_std).cdf(bound) for s, bound in zip(scores, bounds)]
        assert exceeded == close([confidence] * 4)


def test_a_filter_keeps_what_is_at_the_threshold_and_gives_no_reward_above(scorer):
    scores = scorer.score(ROWS)
    threshold = sorted(score.reward_gap for score in scores)[1]
    rewards = UncertaintyFilteredReward(scorer, "reward_gap", threshold)(PROMPTS, COMPLETIONS)
    assert rewards == [score.reward if score.reward_gap <= threshold else None for score in scores]
    assert rewards.count(None) == 2


def test_a_filter_logs_the_raw_reward_of_all_and_the_share_kept(scorer):
    scores, log = scorer.score(ROWS), Log()
    threshold = sorted(score.reward_std for score in scores)[2]
    log.call(UncertaintyFilteredReward(scorer, "reward_std", threshold, name="f"))
    rewards, stds = ([score[field] for score in scores] for field in ("reward", "reward_std"))
    assert log.metrics == close(
        {
            "f/reward/mean": np.mean(rewards),
            "f/reward/std": np.std(rewards),
            "f/reward_std/mean": np.mean(stds),
            "f/reward_std/std": np.std(stds),
            "f/kept_share": 0.75,
        }
    )
    assert log.extra == {"f/reward": rewards, "f/reward_std": stds}


def test_attribute_functions_are_a_list_and_score_a_batch_once(members, monkeypatch):
    rewards, log = AttributeRewards(members[0], ["coherence", "verbosity"]), Log()
    assert isinstance(rewards, list)
    scorer = rewards[0].completions.scorer
    expected = scorer.score(ROWS)
    calls, score = [], scorer.score
    monkeypatch.setattr(scorer, "score", lambda rows: calls.append(len(rows)) or score(rows))
    for attribute, function in zip(["coherence", "verbosity"], rewards, strict=True):
        assert function.__name__ == attribute
        assert log.call(function) == close([s.attribute_means[attribute] for s in expected])
    assert calls == [4]
    assert log.metrics["verbosity/std/mean"] == close(np.mean([s.attribute_stds["verbosity"] for s in expected]))


def test_attribute_functions_see_that_a_batch_was_changed_in_place(members):
    rewards = AttributeRewards(members[0])
    completions = [[dict(completion[0])] for completion in COMPLETIONS]
    before = rewards[0](PROMPTS, completions)
    completions[0][0]["content"] = "another answer"
    after = rewards[1](PROMPTS, completions)
    fresh = RewardScorer(members[0]).score([{"prompt": PROMPTS[0], "completion": completions[0]}])[0]
    assert len(before) == 4
    assert after[0] == close(fresh.attribute_means[rewards[1].__name__])


# What a policy writes


def template_ids(messages) -> list[int]:
    return tiny_tokenizer().apply_chat_template(messages, return_dict=True)["input_ids"]


@pytest.mark.parametrize(
    "answer",
    [
        [{"role": "assistant", "content": ""}],
        [{"role": "assistant", "content": " \n"}],
        [{"role": "assistant", "content": "I look it up."}, {"role": "tool", "content": "42"}],
    ],
    ids=["empty", "blank", "tool"],
)
def test_an_answer_that_no_dataset_would_hold_is_scored_as_trl_would_with_the_model(scorer, answer):
    reward = UncertaintyPenalizedReward(scorer, "reward_gap", 0.0)([PROMPTS[0]], [answer])
    expected = scorer.score([{"input_ids": template_ids(PROMPTS[0] + answer)}])[0].reward
    assert reward == close([expected])


@pytest.mark.parametrize("answer", ["a lake", ""])
def test_plain_text_is_closed_as_in_training(scorer, answer):
    reward = UncertaintyPenalizedReward(scorer, "reward_gap", 0.0)(["Loch Ness is "], [answer])
    ids = tiny_tokenizer()(f"Loch Ness is {answer}<|im_end|>")["input_ids"]
    assert reward == close([scorer.score([{"input_ids": ids}])[0].reward])


def test_a_scorer_may_be_a_name_a_list_of_names_or_a_model(members, scorer):
    expected = UncertaintyPenalizedReward(scorer, "reward_gap", 1.0)(PROMPTS, COMPLETIONS)
    for given in (members, URMEnsemble.from_pretrained(members)):
        assert UncertaintyPenalizedReward(given, "reward_gap", 1.0)(PROMPTS, COMPLETIONS) == close(expected)
    one = [score.reward - score.reward_std for score in RewardScorer(members[0]).score(ROWS)]
    assert UncertaintyPenalizedReward(members[0], "reward_std", 1.0)(PROMPTS, COMPLETIONS) == close(one)


def test_a_model_that_was_named_moves_to_the_trainers_device_and_an_instance_stays(members, scorer, monkeypatch):
    moved = []
    for given in (members[0], scorer):
        reward = UncertaintyPenalizedReward(given, "reward_std")
        monkeypatch.setattr(reward.completions.scorer.model, "to", moved.append)
        reward(PROMPTS, COMPLETIONS)  # outside a trainer
        reward(PROMPTS[:1], COMPLETIONS[:1], trainer_state=object(), log_metric=lambda *_: None)
    assert moved == [PartialState().device]


def test_names_are_what_trl_shows():
    from trl.trainer.utils import get_callable_name

    for kind in (UncertaintyPenalizedReward, UncertaintyFilteredReward, LowerConfidenceBoundReward):
        default = inspect.signature(kind).parameters["name"].default
        reward = object.__new__(kind)
        reward.__name__ = default
        assert get_callable_name(reward) == default


# What is refused


def test_a_reward_that_is_not_finite_is_an_error(members):
    model = tiny_urm(seed=7)
    with torch.no_grad():
        model.score.value.weight.fill_(float("nan"))
    reward = UncertaintyPenalizedReward(RewardScorer(model, tiny_tokenizer()), "reward_std")
    with pytest.raises(ValueError, match="(?i)row .*not finite|row .*nan"):
        reward(PROMPTS, COMPLETIONS)


BAD_COMPLETIONS = {
    "too long": [{"role": "assistant", "content": "x" * 99}],
    "half a character": [{"role": "assistant", "content": "x\ud83d"}],
    "an image": [{"role": "assistant", "content": [{"type": "image", "url": "x"}]}],
}


@pytest.mark.parametrize("bad", BAD_COMPLETIONS.values(), ids=BAD_COMPLETIONS)
def test_a_completion_that_cannot_be_scored_gets_no_reward_and_is_counted(members, bad):
    reward, log = UncertaintyPenalizedReward(RewardScorer(members[0], max_length=60), "reward_std"), Log()
    (expected,) = reward(PROMPTS[:1], [COMPLETIONS[0]])
    rewards = log.call(reward, PROMPTS[:2], [COMPLETIONS[0], bad])
    assert rewards == [pytest.approx(expected, rel=1e-4), None]
    assert log.metrics["uncertainty_penalized_reward/unusable"] == 1
    assert log.extra["uncertainty_penalized_reward/reward"][1] is None


@pytest.mark.parametrize(("installed", "refused"), [("1.5.1", True), ("1.6.0", False), ("1.16.0", False)])
def test_filtering_under_a_trainer_that_sums_none_as_zero_is_refused(scorer, monkeypatch, installed, refused):
    monkeypatch.setattr("urm_hf.rl.rewards.version", lambda name: installed)
    reward = UncertaintyFilteredReward(scorer, "reward_gap", 0.0)
    if refused:
        with pytest.raises(ValueError, match=f"TRL {installed} takes None for a reward of 0"):
            Log().call(reward, trainer_state=object())
        assert reward(PROMPTS, COMPLETIONS) == [None] * 4  # outside a trainer it is None
    else:
        assert Log().call(reward, trainer_state=object()) == [None] * 4


def test_prompts_and_completions_must_match(scorer):
    with pytest.raises(ValueError, match="`prompts` and `completions` must be of one length, got 4 and 3"):
        UncertaintyPenalizedReward(scorer)(PROMPTS, COMPLETIONS[:3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda s: UncertaintyPenalizedReward(s, "gap"), "`measure` must be one of .*reward_gap.* got 'gap'"),
        (lambda s: UncertaintyPenalizedReward(s, coefficient=-1.0), "`coefficient` must be finite and not negative"),
        (lambda s: UncertaintyPenalizedReward(s, coefficient=float("nan")), "`coefficient` must be"),
        (lambda s: UncertaintyFilteredReward(s, "reward_gap", float("nan")), "`threshold` must be finite"),
        (lambda s: UncertaintyFilteredReward(s, "reward_gap", -0.1), "`threshold` must be finite"),
        (lambda s: UncertaintyFilteredReward(s, "std", 1.0), "`measure` must be one of .* got 'std'"),
        (lambda s: LowerConfidenceBoundReward(s, 1.0), "`confidence` must be at least 0.5 and below 1, got 1.0"),
        (lambda s: LowerConfidenceBoundReward(s, 0.3), "`confidence`"),
        (lambda s: AttributeRewards(s, ["humour"]), "`attributes` must be of .*helpfulness.* got .'humour'."),
        (lambda s: AttributeRewards(s, []), "`attributes` must be of"),
    ],
)
def test_bad_arguments_are_named(scorer, make, message):
    with pytest.raises(ValueError, match=message):
        make(scorer)


def test_a_measure_that_needs_an_ensemble_is_refused_at_once_for_a_single_model(members):
    with pytest.raises(ValueError, match="reward_gap compares members, so it needs an ensemble"):
        UncertaintyPenalizedReward(members[0])


def test_a_model_without_uncertainty_is_refused_at_once():
    torch.manual_seed(0)
    plain = AutoModelForSequenceClassification.from_config(tiny_backbone_config(num_labels=1))
    scorer = RewardScorer(plain, tiny_tokenizer())
    with pytest.raises(ValueError, match="reward_std needs a URM or an ensemble; Llama"):
        LowerConfidenceBoundReward(scorer)
    with pytest.raises(ValueError, match="`attributes` must be of"):
        AttributeRewards(scorer)


@pytest.mark.parametrize(("read_as", "told"), [("chat", 1), ("text", 0)])
def test_plain_text_for_a_model_that_learnt_from_chats_is_told_once(read_as, told, caplog):
    model = tiny_urm()
    model.config.training = {"attribute_stage": {"conversations": 1, "read_as": read_as, "digests": ""}}
    reward = UncertaintyPenalizedReward(RewardScorer(model, tiny_tokenizer()), "reward_std", 0.5)
    reward(PROMPTS, COMPLETIONS)  # chats: nothing to say
    assert PLAIN_TEXT not in caplog.text
    for question in ("a?", "b?"):
        reward([question], ["b"])
    assert caplog.text.count(PLAIN_TEXT) == told
    caplog.clear()
    with running_server(RewardScorer(model, tiny_tokenizer())) as server:  # which says so of its model
        UncertaintyPenalizedReward(server.url, "reward_std", 0.5)(["a?"], ["b"])
    assert caplog.text.count(PLAIN_TEXT) == told
