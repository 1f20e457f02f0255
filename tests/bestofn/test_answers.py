"""The best of answers to a prompt, generated or given, by a model and a rule."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.helpers.prompts import CHAT, TEXTS
from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble, best_of_n
from urm_hf.bestofn.answers import BestAnswer
from urm_hf.bestofn.rules import Rule
from urm_hf.bestofn.sampling import sample_answers

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(2)])


def test_the_best_is_what_the_scorer_says_of_each_candidate(policy, tokenizer, members):
    scorer = RewardScorer(URMEnsemble.from_pretrained(members))
    best = best_of_n(policy, CHAT, 4, scorer, tokenizer=tokenizer, max_new_tokens=12, seed=5)
    written = sample_answers(policy, CHAT, 4, tokenizer=tokenizer, max_new_tokens=12, seed=5)
    assert [item.candidates for item in best] == [[answer.text for answer in group] for group in written]
    assert [item.cut for item in best] == [[answer.cut for answer in group] for group in written]
    for item, prompt in zip(best, CHAT):
        alone = scorer.score([prompt + [{"role": "assistant", "content": text}] for text in item.candidates])
        rewards = [score.reward for score in alone]
        assert [score.reward for score in item.scores] == close(rewards)
        assert item.index == int(np.argmax(rewards)) and item.answer == item.candidates[item.index]
        assert item.score is item.scores[item.index] and item.score.reward_gap is not None
        assert (item.prompt, item.tied, item.duplicates, item.eligible) == (prompt, 1, 0, [True] * 4)
        assert item.empty == [False] * 4


def test_by_name_as_by_instance(policy, tokenizer, members, tmp_path):
    policy.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    settings = {"max_new_tokens": 8, "seed": 2, "select": "min"}
    named = best_of_n(str(tmp_path), TEXTS, 3, members, **settings)
    given = best_of_n(policy, TEXTS, 3, members, tokenizer=tokenizer, **settings)
    assert [item.answer for item in named] == [item.answer for item in given]
    for item in given:
        assert item.index == int(np.argmax([min(score.member_rewards) for score in item.scores]))


ANSWERS = [["The Po.", "The Rhine, I think.", "The Po."], ["Because they can.", "", "So."], ["Hello!", "Hey", "Go."]]


def test_texts_and_functions_are_policies_too(members):
    asked = []

    def policy(prompts):
        asked.append(prompts)
        return ANSWERS

    given = best_of_n(ANSWERS, CHAT, 3, members[0])
    called = best_of_n(policy, CHAT, None, members[0])
    assert asked == [CHAT] and [item.answer for item in given] == [item.answer for item in called]
    assert [item.cut for item in given] == [None] * 3
    assert [item.duplicates for item in given] == [1, 0, 0]
    assert given[0].scores[0].reward == given[0].scores[2].reward


def test_an_empty_candidate_is_marked_and_taken_only_if_all_are(members):
    best = best_of_n([["", "Yes.", " \n"], ["", "  ", ""]], CHAT[:2], 3, members[0])
    assert best[0].empty == [True, False, True] and best[0].answer == "Yes."
    assert [score is None for score in best[0].scores] == best[0].empty
    assert (best[1].answer, best[1].score, best[1].index, best[1].tied) == ("", None, 0, 3)
    assert best[1].eligible == [False] * 3
    nothing = best_of_n([["", ""]], CHAT[:1], 2, members[0], select="filtered")
    assert nothing[0].score is None


def test_of_equal_candidates_the_first_is_taken(members):
    (best,) = best_of_n([["Same.", "Same.", "Same."]], CHAT[:1], 3, members[0])
    assert (best.index, best.tied, best.duplicates) == (0, 3, 2)


def test_a_filter_leaves_out_what_is_uncertain(members):
    scores = [item.scores for item in best_of_n(ANSWERS, CHAT, 3, members)]
    gaps = [score.reward_gap for group in scores for score in group if score]
    rule = Rule("filtered", threshold=sorted(gaps)[3])
    best = best_of_n(ANSWERS, CHAT, 3, members, select=rule)
    assert sum(sum(item.eligible) for item in best) == 4
    for item in best:
        left = [k for k in range(3) if item.eligible[k]] or [k for k in range(3) if item.scores[k]]
        assert item.index == max(left, key=lambda k: item.scores[k].reward)
        assert item.eligible == [bool(s) and s.reward_gap <= rule.threshold for s in item.scores]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompts": []}, "`prompts` must be a list of texts or of messages, and not empty"),
        ({"prompts": "Why?"}, "`prompts` must be a list of texts"),
        ({"prompts": CHAT[0]}, r"got the messages of one: pass \[messages\]"),
        ({"select": "best"}, "must be one of reward, min"),
        ({"select": "min"}, "compares members"),
        ({"policy": ANSWERS[:2]}, "a list of answers for each of the 3 prompts, got 2"),
        ({"policy": [["a"], "bcd", ["d"]], "n": None}, r"the answers to `prompts\[1\]` must be a list of texts"),
        ({"policy": [["a"], [], ["d"]], "n": None}, r"there are 0 answers to `prompts\[1\]`, expected at least one"),
        ({"n": 2}, r"there are 3 answers to `prompts\[0\]`, expected 2"),
        ({"seed": 1}, r"\['seed'\] are for a policy that generates"),
        ({"policy": "no-such-folder", "n": None}, "`n` is needed for a policy that generates"),
    ],
)
def test_choosing_that_makes_no_sense_is_an_error(members, change, message):
    arguments = {"policy": ANSWERS, "prompts": CHAT, "n": 3, "scorer": members[0]} | change
    with pytest.raises(ValueError, match=message):
        best_of_n(**arguments)


def test_a_rule_that_the_model_cannot_follow_is_told_before_anything_is_generated(members):
    def policy(prompts):
        raise AssertionError("asked")

    with pytest.raises(ValueError, match="compares members"):
        best_of_n(policy, CHAT, 3, members[0], select="min")


def test_the_name_is_the_function_however_often_it_is_imported():
    for _ in range(2):
        from urm_hf import best_of_n as imported

        assert callable(imported) and imported is best_of_n
    assert BestAnswer.__module__ == "urm_hf.bestofn.answers"


def test_the_example_chooses_and_writes_what_urm_bestofn_reads(policy, members, tmp_path, monkeypatch, capsys):
    policy.save_pretrained(tmp_path / "policy")
    tiny_tokenizer().save_pretrained(tmp_path / "policy")
    out = tmp_path / "out"
    argv = ["--policy", str(tmp_path / "policy"), "--reward", *members, "--out", str(out), "--max_prompts", "3"]
    monkeypatch.setattr(sys, "argv", ["best_of_n.py", *argv, "--n", "4", "--max_new_tokens", "8", "--select", "min"])
    runpy.run_path(str(ROOT / "examples" / "best_of_n.py"), run_name="__main__")
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "candidates.jsonl").read_text().splitlines()]
    chosen = [json.loads(line)["response"] for line in (out / "chosen.jsonl").read_text().splitlines()]
    assert [len(row["candidates"]) for row in rows] == [4] * 3
    best = best_of_n([row["candidates"] for row in rows], [row["prompt"] for row in rows], 4, members, select="min")
    assert chosen == [item.answer for item in best]
    assert all(item.prompt[-1]["content"] in printed for item in best)
    reward = np.mean([item.score.reward for item in best])
    assert f"| chosen | {reward:.3f} |" in printed


def test_a_scalar_reward_model_chooses_by_its_reward(tmp_path):
    torch.manual_seed(0)
    config = tiny_backbone_config(num_labels=1)
    folder = save_with_tokenizer(AutoModelForSequenceClassification.from_config(config), tmp_path / "scalar")
    best = best_of_n(ANSWERS, CHAT, 3, folder)
    for item in best:
        rewards = [-np.inf if score is None else score.reward for score in item.scores]
        assert item.index == int(np.argmax(rewards)) and "reward_std" not in item.score
    with pytest.raises(ValueError, match="needs a URM or an ensemble"):
        best_of_n(ANSWERS, CHAT, 3, folder, select="mean_minus_k_std")
