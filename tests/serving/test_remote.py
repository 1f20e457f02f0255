"""`RemoteScorer` is the scorer of the server, for programs and for the reward functions of TRL's trainers."""

import logging

import numpy as np
import pytest
import torch

from tests.helpers.chats import ROWS, messages_of
from tests.helpers.posteriors import with_posterior
from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RemoteScorer, RewardScorer, best_of_n, build_preference_pairs
from urm_hf.data.errors import RowError
from urm_hf.rewards import (
    AttributeRewards,
    LowerConfidenceBoundReward,
    UncertaintyFilteredReward,
    UncertaintyPenalizedReward,
)
from urm_hf.scoring import remote
from urm_hf.scoring.remote import ServerError
from urm_hf.scoring.scorer import NonFiniteScores

PROMPTS = [row["prompt"] for row in ROWS]
ANSWERS = [row["response"] for row in ROWS]


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        expected = value if isinstance(value, (bool, int)) else close(value)
        assert found[name] == expected, name


def test_scores_are_those_of_the_model(server):
    scorer = RemoteScorer(server.url)
    assert scorer.attributes == server.scorer.attributes
    for found, wanted in zip(scorer.score(ROWS), server.scorer.score(ROWS), strict=True):
        same(found, wanted)
    assert scorer(ROWS, progress=True)[0].reward == scorer.score(ROWS)[0].reward
    assert scorer.score([]) == []


def test_what_one_model_does_not_know_crosses_the_network(urm):
    model, _ = with_posterior()
    with running_server(RewardScorer(model, tiny_tokenizer()), name="knows") as server:
        scorer = RemoteScorer(server.url)
        assert scorer.has_posterior and not RemoteScorer(urm.url).has_posterior
        (found, *_), (wanted, *_) = scorer.score(ROWS), server.scorer.score(ROWS)
        for level in (0.5, 0.9):
            intervals, expected = found.attribute_intervals(level), wanted.attribute_intervals(level)
            assert {name: list(ends) for name, ends in intervals.items()} == {
                name: close(list(ends)) for name, ends in expected.items()
            }
        there, here = (
            UncertaintyPenalizedReward(model, "reward_epistemic", coefficient=2.0) for model in (scorer, server.scorer)
        )
        assert there(PROMPTS, ANSWERS) == close(here(PROMPTS, ANSWERS))
    with pytest.raises(ValueError, match="needs an ensemble or a URM with a posterior"):
        UncertaintyPenalizedReward(urm.url, "reward_epistemic")


def test_rows_of_every_form_cross_the_network(urm):
    rows = [
        ROWS[0],
        messages_of(ROWS[1]),
        "plain ünicode text 🕖",
        {"prompt": "2 + 2?", "completion": " 4"},
        {"input_ids": torch.tensor([5, 6, 7])},
        {"input_ids": np.array([5, 6])},
        {"messages": tuple(messages_of(ROWS[0])), "chat_template_kwargs": {"x": 1}},
    ]
    wanted = urm.scorer.score(rows)
    for found, expected in zip(RemoteScorer(urm.url).score(rows), wanted, strict=True):
        same(found, expected)


def test_many_rows_go_in_several_requests_and_errors_name_the_row(urm, monkeypatch):
    monkeypatch.setattr(remote, "ROWS_AT_ONCE", 4)
    scorer = RemoteScorer(urm.url)
    rows = [{"prompt": f"What is {n}?", "response": f"{n}."} for n in range(11)]
    before = urm.count("urm_requests_total", route="rewards", status="200")
    assert [score.reward for score in scorer.score_stream(rows, rows_at_once=4)] == close(
        [score.reward for score in urm.scorer.score(rows)]
    )
    assert urm.count("urm_requests_total", route="rewards", status="200") == before + 3
    scorer._max_body = 400
    assert len(scorer.score(rows)) == 11
    rows[9]["response"] = "x" * 600
    with pytest.raises(RowError, match="^row 9: .*max_length=512") as told:
        scorer.score(rows)
    assert told.value.row == 9
    rows[9] = {"prompt": 7}
    with pytest.raises(RowError, match="^row 9: ") as told:
        scorer.score(rows)
    assert told.value.row == 9


def test_one_conversation_is_no_list_of_them(urm):
    with pytest.raises(ValueError, match=r"score\(\[messages\]\)"):
        RemoteScorer(urm.url).score(messages_of(ROWS[0]))


def test_a_reward_that_is_not_finite_is_the_error_of_the_scorer():
    model = tiny_urm()
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer()("~")["input_ids"][0]] = float("nan")
    with running_server(RewardScorer(model, tiny_tokenizer())) as server:
        scorer = RemoteScorer(server.url)
        with pytest.raises(NonFiniteScores) as told:
            scorer.score(["a", "b~", "c", "~"])
        assert told.value.row == 1 and told.value.indices == [1, 3]
        reward = LowerConfidenceBoundReward(scorer)
        found = reward(["a", "b"], ["c", "~"])
        assert found[0] is not None and found[1] is None
        with pytest.raises(NonFiniteScores):
            reward(["a", "b"], ["~", "~"])


def functions(scorer):
    return [
        UncertaintyPenalizedReward(scorer, "reward_gap", 0.5),
        LowerConfidenceBoundReward(scorer),
        UncertaintyFilteredReward(scorer, "reward_std", 5.0),
        *AttributeRewards(scorer, ["coherence"]),
    ]


@pytest.mark.parametrize("form", ["url", "scorer"])
def test_reward_functions_take_a_server(urme, form):
    remote_functions = functions(urme.url if form == "url" else RemoteScorer(urme.url))
    for far, near in zip(remote_functions, functions(urme.scorer), strict=True):
        chats = [messages_of(row)[:1] for row in ROWS], [messages_of(row)[1:] for row in ROWS]
        for prompts, answers in ((PROMPTS, ANSWERS), chats):
            wanted = near(prompts, answers)
            assert far(prompts, answers) == [None if reward is None else close(reward) for reward in wanted]


def test_what_a_policy_left_unanswered_is_scored_as_in_this_process(urm, caplog):
    caplog.set_level(logging.WARNING)
    prompts = [messages_of(ROWS[0])[:1]] * 4
    answers = ["", [{"role": "assistant", "content": " "}], "x" * 700, "The Po."]
    near, far = (LowerConfidenceBoundReward(scorer)(prompts, answers) for scorer in (urm.scorer, urm.url))
    assert near[2] is None and None not in (near[0], near[1], near[3])
    assert far == [None if reward is None else close(reward) for reward in near]
    assert "completion 2 gets no reward" in caplog.text


def test_a_measure_that_the_model_lacks_is_told_before_training(urm):
    with pytest.raises(ValueError, match="needs an ensemble"):
        UncertaintyPenalizedReward(urm.url, "reward_gap")
    with pytest.raises(ValueError, match="`attributes` must be of"):
        AttributeRewards(urm.url, ["beauty"])


def test_the_token_is_shown_and_never_told():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), token="s3cret") as server:
        host = server.url.removeprefix("http://")
        for scorer in (RemoteScorer(server.url, "s3cret"), RemoteScorer(f"http://any:s3cret@{host}/")):
            assert scorer.score(ROWS[:1]) and "s3cret" not in scorer.url
        with pytest.raises(ServerError, match="401: the token is missing or wrong"):
            RemoteScorer(server.url)
        with pytest.raises(ServerError) as told:
            RemoteScorer(f"http://any:wr0ng@{host}")
        assert "wr0ng" not in str(told.value)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "127.0.0.1:8770", "http:///x"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(ValueError, match="`url` must be like"):
        RemoteScorer(url)


def test_a_server_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(remote, "ATTEMPTS", 2)
    monkeypatch.setattr(remote, "LONGEST_PAUSE", 0.01)
    with pytest.raises(ServerError, match="is `urm serve` running there"):
        RemoteScorer("http://127.0.0.1:9")


def test_the_best_of_n_and_pairs_are_those_of_the_model(urme):
    answers = [["The Po.", "A lake.", "x" * 20], ["So.", "No.", "Why not?"]]
    near, far = (best_of_n(answers, ["Name a river.", "Why?"], None, scorer) for scorer in (urme.scorer, urme.url))
    assert [chosen.answer for chosen in far] == [chosen.answer for chosen in near]
    near, far = (build_preference_pairs(["Name a river.", "Why?"], answers, s)[0] for s in (urme.scorer, urme.url))
    assert far["chosen"] == near["chosen"] and far["rejected"] == near["rejected"]


@pytest.mark.parametrize("route", ["get_reward", "reward/", "v1/rewards"])
def test_a_route_of_frameworks_is_no_address(route):
    with pytest.raises(ValueError, match="`url` must be the server's address alone, without a route"):
        RemoteScorer(f"http://127.0.0.1:8770/{route}")
