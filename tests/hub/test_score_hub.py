"""`urm score` with models of the Hub: what was begun with one commit is never finished with another."""

import json
from pathlib import Path

import pytest

from tests.helpers.hub_server import FakeHub
from tests.helpers.score_runs import ROWS, error_of, interrupted, rewards, score, write
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.scoring.jobs.job import ScoreJob


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


def push(server: FakeHub, name: str, seed: int) -> str:
    """Pushes a model with its tokenizer to the main branch; returns the commit."""
    tiny_tokenizer().push_to_hub(name, private=True)
    tiny_urm(seed=seed).push_to_hub(name)
    return server.repositories[name].branches["main"]


def expected(seed: int) -> list[float]:
    return [found.reward for found in RewardScorer(tiny_urm(seed=seed), tiny_tokenizer()).score(ROWS)]


def test_a_branch_that_moved_is_another_model(server, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.jsonl"
    first = push(server, "org/urm", 0)
    interrupted("org/urm", data, out, monkeypatch)
    second = push(server, "org/urm", 1)
    assert score("org/urm", "--data", data, "--out", out, "--rows-per-part", 10) == 2
    error = error_of(capsys)
    assert f"model was ['org/urm@{first}'], is ['org/urm@{second}']" in error and "must not be mixed" in error
    assert not out.exists()
    assert score("org/urm", "--data", data, "--out", out, "--rows-per-part", 10, "--revision", first) == 0
    assert rewards(out) == close(expected(0))


def test_a_branch_that_stays_is_gone_on_with(server, data, tmp_path, monkeypatch):
    out = tmp_path / "out.jsonl"
    push(server, "org/urm", 0)
    interrupted("org/urm", data, out, monkeypatch)
    assert score("org/urm", "--data", data, "--out", out, "--rows-per-part", 10) == 0
    assert rewards(out) == close(expected(0))


def test_members_that_moved_are_named(server, data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.jsonl"
    commits = [push(server, f"org/member-{seed}", seed) for seed in range(2)]
    URMEnsemble.from_pretrained(["org/member-0", "org/member-1"]).save_pretrained(tmp_path / "urme")
    interrupted(["org/member-0", "org/member-1"], data, out, monkeypatch)
    moved = push(server, "org/member-1", 2)
    argv = ["--data", data, "--out", out, "--rows-per-part", 10]
    assert score("org/member-0", "org/member-1", *argv) == 2
    told = f"was ['org/member-0@{commits[0]}', 'org/member-1@{commits[1]}'], is ['org/member-0@{commits[0]}', "
    assert f"{told}'org/member-1@{moved}']" in error_of(capsys)
    assert score("org/member-0", "org/member-1", *argv, "--revision", *commits) == 0
    ensemble = RewardScorer(URMEnsemble.from_pretrained(tmp_path / "urme")).score(ROWS)  # names its commits
    assert rewards(out) == close([found.reward for found in ensemble])


def test_all_of_a_model_is_of_one_commit(server, monkeypatch):
    """Somebody pushes while the model is being loaded."""
    first = push(server, "org/urm", 0)
    from urm_hf.scoring import scorer as scoring

    usual = scoring.load_reward_model

    def load_slowly(*args):
        push(server, "org/urm", 1)
        tiny_tokenizer("left").push_to_hub("org/urm")
        return usual(*args)

    monkeypatch.setattr(scoring, "load_reward_model", load_slowly)
    scorer = RewardScorer("org/urm")
    assert scorer.source.revision == first and scorer.tokenizer.padding_side == "right"
    assert [found.reward for found in scorer.score(ROWS)] == close(expected(0))


def test_processes_that_start_later_load_the_commit_of_the_first(server, data, tmp_path):
    first = push(server, "org/urm", 0)
    job = ScoreJob(["org/urm"], str(data), tmp_path / "out.jsonl").pinned()
    push(server, "org/urm", 1)
    assert job.revisions == [first]
    assert job.manifest(job.scorer(None), job.source())["model"] == [f"org/urm@{first}"]


def test_a_model_in_the_cache_needs_no_hub(server, data, tmp_path, monkeypatch):
    first = push(server, "org/urm", 0)
    assert score("org/urm", "--data", data, "--out", tmp_path / "online.jsonl") == 0
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(server.requests)
    interrupted("org/urm", data, tmp_path / "out.jsonl", monkeypatch)
    manifest = json.loads((tmp_path / "out.jsonl.parts" / "manifest.json").read_text())
    assert manifest["model"] == [f"org/urm@{first}"] and len(server.requests) == before


def test_a_name_that_nothing_is_known_of_is_told_without_a_hub(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert score("org/no-such-model", "--data", data, "--out", tmp_path / "out.jsonl") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm score: error: org/no-such-model is no folder here, and the Hub cannot be asked")
