"""`urm bestofn --policy`: sampled, scored, chosen and judged, whole or in pieces, from here or from an endpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.judge_server import FakeJudge, judge_of_a_test
from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.bestofn.candidates import LocalPolicy, Sampling, ServedPolicy, read_prompts, sample_candidates
from urm_hf.bestofn.curve import expected_best
from urm_hf.bestofn.sampling import sample_answers
from urm_hf.cli import main
from urm_hf.data.source import Source
from urm_hf.data.tables import read_jsonl

PROMPTS = [{"id": f"p{n}", "instruction": f"Name river {n}!", "reference": "Rhine."[: n + 1]} for n in range(6)]
SAMPLING = ["--n", "4", "--max-new-tokens", "6", "--bootstrap-samples", "50"]


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    return str(path)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A policy, two members and a gold model."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    policy = AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.05))
    members = save_members(root / "members", [tiny_urm(seed=seed) for seed in range(2)])
    return {
        "policy": save_with_tokenizer(policy, root / "policy"),
        "urm": members[0],
        "urme": ",".join(members),
        "gold": save_with_tokenizer(tiny_urm(seed=7), root / "gold"),
    }


@pytest.fixture
def judge(monkeypatch):
    with judge_of_a_test(monkeypatch) as fake:
        yield fake


def run(capsys, *argv) -> str:
    code = main(["bestofn", *map(str, argv)])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def candidates_of(folder: Path) -> list[dict]:
    return list(read_jsonl(folder / "candidates.jsonl"))


def rewards_of(scorer: RewardScorer, rows: list[dict]) -> np.ndarray:
    """Of all candidates, (R, N); -inf of an empty one, which no model scores."""
    rewards = np.full((len(rows), len(rows[0]["candidates"])), -np.inf)
    said = [(n, k) for n, row in enumerate(rows) for k, c in enumerate(row["candidates"]) if c["response"].strip()]
    asked = []
    for n, k in said:
        answer = {"role": "assistant", "content": rows[n]["candidates"][k]["response"]}
        asked.append([*rows[n]["prompt"], answer])
    for place, score in zip(said, scorer.score(asked), strict=True):
        rewards[place] = score.reward
    return rewards


def test_against_a_gold_model_the_curves_are_expectations_over_subsets(capsys, folders, prompts, tmp_path):
    out = tmp_path / "out"
    argv = [folders["urm"], folders["urme"], "--policy", folders["policy"], "--prompts", prompts, *SAMPLING]
    run(capsys, *argv, "--judge", "gold", "--gold-model", folders["gold"], "--out", out)
    rows = candidates_of(out)
    assert [row["id"] for row in rows] == [row["id"] for row in PROMPTS]
    expected = sample_answers(
        AutoModelForCausalLM.from_pretrained(folders["policy"]),
        [row["prompt"] for row in rows],
        4,
        max_new_tokens=6,
        tokenizer=tiny_tokenizer(),
    )
    assert [[c["response"] for c in row["candidates"]] for row in rows] == [[a.text for a in g] for g in expected]
    assert rows[2]["prompt"] == [{"role": "user", "content": "Name river 2!"}]
    gold = rewards_of(RewardScorer(folders["gold"]), rows)
    assert np.isinf(gold).any()  # an empty answer is worth the least of all
    gold[np.isinf(gold)] = gold[np.isfinite(gold)].min()
    proxy = rewards_of(RewardScorer(URMEnsemble.from_pretrained(folders["urme"].split(","))), rows)
    results = json.loads((out / "results.json").read_text())
    assert results["n"] == [1, 2, 4] and results["data"]["policy"] == folders["policy"]
    curve = next(c for c in results["curves"] if c["name"] == "member-0+member-1: reward")
    by_hand = np.mean([expected_best(g, p, [1, 2, 4]) for g, p in zip(gold, proxy, strict=True)], axis=0)
    assert curve["gold"] == pytest.approx(by_hand.tolist(), abs=1e-5)
    assert (out / "best_of_n.png").is_file()


def test_an_llm_judges_the_choice_of_the_first_n_and_each_answer_once(capsys, folders, prompts, tmp_path, judge):
    out = tmp_path / "out"
    argv = [folders["urm"], folders["urme"], "--policy", folders["policy"], "--prompts", prompts, *SAMPLING]
    printed = run(capsys, *argv, "--judge", judge.url, "--judge-model", "m", "--out", out)
    rows, results = candidates_of(out), json.loads((out / "results.json").read_text())
    # FakeJudge prefers the longer of the two; of equal ones that which it sees first: the orders disagree, a tie
    assert all(row["reference"] == PROMPTS[n]["reference"] for n, row in enumerate(rows))
    length = np.array([[len(c["response"]) for c in row["candidates"]] for row in rows])
    against = np.array([[len(row["reference"])] for row in rows])
    said = np.array([[bool(c["response"].strip()) for c in row["candidates"]] for row in rows])
    worth = np.where(said, (np.sign(length - against) + 1) / 2, 0)
    assert len(set(worth.ravel().tolist())) > 1
    keys = {
        "member-0: reward": rewards_of(RewardScorer(folders["urm"]), rows),
        "member-0+member-1: reward": rewards_of(
            RewardScorer(URMEnsemble.from_pretrained(folders["urme"].split(","))), rows
        ),
        "longest answer": length,
        "random": np.zeros_like(length),
    }
    assert {curve["name"] for curve in results["curves"]} == set(keys)
    asked = set()
    for curve in results["curves"]:
        key = keys[curve["name"]]
        chosen = np.array([[int(np.argmax(row[:n])) for n in (1, 2, 4)] for row in key])
        assert curve["gold"] == pytest.approx(np.take_along_axis(worth, chosen, 1).mean(0).tolist()), curve["name"]
        asked |= {(n, rows[n]["candidates"][k]["response"]) for n, ks in enumerate(chosen) for k in ks if said[n, k]}
    assert results["judge"]["pairs"] == len(asked) and len(judge.asked) == 2 * len(asked)
    assert results["data"]["gold"] == "win rate" and "distinct choices judged by m" in printed
    # once more: nothing is sampled, scored or asked again
    run(capsys, *argv, "--judge", judge.url, "--judge-model", "m", "--out", out)
    assert len(judge.asked) == 2 * len(asked)
    again = json.loads((out / "results.json").read_text())
    assert again["curves"] == results["curves"]


def test_a_run_that_was_killed_while_sampling_gives_the_same_bytes(folders, prompts, tmp_path):
    rows = read_prompts(Source(prompts))
    sampling = Sampling(4, max_new_tokens=6, seed=3)
    whole = sample_candidates(LocalPolicy(folders["policy"], sampling, 2), rows, {}, tmp_path / "whole")

    class Killed(Exception):
        pass

    def kill(done: int):
        raise Killed

    folder = tmp_path / "pieces"
    for _ in range(2):
        with pytest.raises(Killed):
            sample_candidates(LocalPolicy(folders["policy"], sampling, 2), rows, {}, folder, on_block=kill)
    part = folder / "candidates.part.jsonl"
    assert len(part.read_text().splitlines()) == 4 and not (folder / "candidates.jsonl").exists()
    part.write_bytes(part.read_bytes() + b'{"torn": ')
    # the rest at another batch size
    done = sample_candidates(LocalPolicy(folders["policy"], sampling, 5), rows, {}, folder)
    assert done.read_bytes() == whole.read_bytes() and not part.exists()
    with pytest.raises(ValueError, match=r"other settings \(seed 3 there and 4 here\)"):
        other = Sampling(4, max_new_tokens=6, seed=4)
        sample_candidates(LocalPolicy(folders["policy"], other), rows, {}, folder)


class FakePolicy:
    """Answers with the prompt and the seed; every third answer is empty."""

    def completion(self, body):
        text = f"{body['messages'][-1]['content']} {body['seed']}" if body["seed"] % 3 else ""
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {"choices": [choice], "model": body["model"]}


def test_a_served_policy_is_asked_once_for_each_answer_with_a_seed_of_its_own(judge, prompts, tmp_path, monkeypatch):
    monkeypatch.setattr(FakeJudge, "completion", lambda self, body: FakePolicy().completion(body))
    rows = read_prompts(Source(prompts))

    def ask(n: int, folder: str) -> list[dict]:
        policy = ServedPolicy("p", Sampling(n, max_new_tokens=9, top_p=0.9, seed=1), judge.url, concurrency=3)
        sample_candidates(policy, rows, {}, tmp_path / folder)
        return candidates_of(tmp_path / folder)

    four = ask(4, "four")
    assert len(judge.asked) == 24
    body = judge.asked[0]
    assert (body["model"], body["max_tokens"], body["top_p"], body["temperature"]) == ("p", 9, 0.9, 1.0)
    assert "top_k" not in body
    texts = [c["response"] for row in four for c in row["candidates"]]
    assert len({body["seed"] for body in judge.asked}) == 24 and "" in texts
    said = [text for text in texts if text]
    assert len(set(said)) == len(said) and all(t.startswith("Name river") for t in said)
    # the first answers do not depend on how many there are
    six = ask(6, "six")
    assert [row["candidates"][:4] for row in six] == [row["candidates"] for row in four]


def test_what_does_not_go_together_is_told_before_anything_is_loaded(prompts, tmp_path, capsys):
    def told(*argv) -> str:
        assert main(["bestofn", "urm", *map(str, argv), "--out", str(tmp_path / "out")]) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert "either --data" in told() and "either --data" in told("--data", prompts, "--policy", "p")
    assert "--n is of --policy" in told("--data", prompts, "--n", 4)
    assert "--n is of --policy" in told("--data", prompts, "--n", 0)
    assert "--n must be positive, got 0" in told("--policy", "p", "--prompts", prompts, "--n", 0)
    assert "--policy needs --prompts" in told("--policy", "p")
    policy = ["--policy", "p", "--prompts", prompts]
    assert "--judge gold and --gold-model go together" in told(*policy, "--judge", "gold")
    assert "--judge URL and --judge-model go together" in told(*policy, "--judge", "http://127.0.0.1:9/v1")
    assert "--gold is a field of --data" in told(*policy, "--gold", "win")
    assert "`n` must be at least 2" in told(*policy, "--n", 1)
    url = ["--judge", "http://127.0.0.1:9/v1", "--judge-model", "m"]
    assert "row 0: column `other`, the answer to judge against" in told(*policy, *url, "--reference-column", "other")
    assert not (tmp_path / "out" / "candidates.jsonl").exists()
