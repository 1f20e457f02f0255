"""The scripts of examples/paper: the whole way on tiny data, their rules by hand, and what they write of claims."""

import gzip
import importlib
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "paper"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs a script as the main module, in this process."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))

    def run_script(script: str, *argv: str) -> str:
        monkeypatch.setattr(sys, "argv", [script, *map(str, argv)])
        runpy.run_path(str(FOLDER / script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


@pytest.fixture
def module(monkeypatch):
    def load(name: str):
        monkeypatch.syspath_prepend(str(FOLDER))
        return importlib.import_module(name)

    return load


def test_gold_counts_the_topics_words_and_takes_off_what_is_said_twice_or_bad(module):
    world = module("world")
    words = world.WORDS["topic3"]
    cases = {
        " ".join(words): (4, 4),
        words[0]: (1, 4),
        f"{words[0]} {words[0]} {words[0]}": (1, 2),
        f"{words[0]} {world.WORDS['topic2'][0]} other1": (1, 4),
        f"{words[0]} bad1 bad1 bad2": (1, 1),
        " ".join([words[0]] * 9): (1, 0),
        "": (0, 4),
    }
    for answer, expected in cases.items():
        assert world.rate("topic3 : ", answer).tolist() == list(expected), answer
        assert world.gold("topic3 : ", answer) == np.mean(expected)


def test_an_interval_of_seeds_is_students_and_the_verdict_follows_the_side(module):
    low, high = module("grpo").interval(np.array([1.0, 2.0, 4.0]))
    half = 4.302653 * np.std([1, 2, 4], ddof=1) / np.sqrt(3)
    assert (low, high) == pytest.approx((7 / 3 - half, 7 / 3 + half), rel=1e-5)
    decide = module("page").decide
    assert [decide([0.1, 0.3], sign) for sign in (1, -1)] == ["shown here", "contradicted"]
    assert [decide([-0.3, -0.1], sign) for sign in (1, -1)] == ["contradicted", "shown here"]
    assert [decide([-0.1, 0.3], sign) for sign in (1, -1)] == ["not shown"] * 2


@pytest.mark.slow
def test_grpo_goes_on_where_it_was_and_gold_teaches_nothing(run, module, tmp_path):
    module("world").make_policy(tmp_path / "grpo" / "policy", steps=20)
    argv = ("--seeds", 2, "--steps", 2, "--answers", 4, "--completions", 16, "--out", tmp_path / "grpo")
    rules = ("--rules", "URM, mean", "URME, filtered by gap", "posterior, less 1 std")
    printed = run("grpo.py", *argv, *rules)
    results = json.loads((tmp_path / "grpo" / "results.json").read_text())
    assert list(results["rules"]) == list(rules[1:])
    runs = sorted((tmp_path / "grpo" / "runs").glob("*.json"))
    assert len(runs) == 6 and "| posterior, less 1 std |" in printed
    one = json.loads(runs[0].read_text())
    assert len(one["gold"]) == len(one["proxy"]) == 2 and all(0 <= value <= 4 for value in one["gold"])
    plain = results["rules"]["URM, mean"]
    assert plain["gain"] == 0 and plain["end"] == pytest.approx(np.mean(plain["ends"]))
    times = [path.stat().st_mtime_ns for path in runs]
    run("grpo.py", *argv, *rules)
    assert [path.stat().st_mtime_ns for path in runs] == times


@pytest.mark.slow
def test_rounds_of_dpo_leave_half_of_the_answers_out(run, module, tmp_path):
    module("world").make_policy(tmp_path / "dpo" / "policy", steps=20)
    argv = ("--seeds", 1, "--rounds", 1, "--candidates", 4, "--repeats", 2, "--answers", 4, "--out", tmp_path / "dpo")
    printed = run("dpo.py", *argv)
    assert "| posterior, half |" in printed
    rounds = {path.name: json.loads(path.read_text()) for path in (tmp_path / "dpo" / "runs").glob("*.json")}
    assert len(rounds) == 10
    whole, half = rounds["URM--all-0-0.json"], rounds["URME--half-by-gap-0-0.json"]
    assert whole["unknown"] == 0 and whole["threshold"] is None
    assert half["unknown"] >= 16 and half["threshold"] > 0  # of 64 answers, some of them repeated
    assert whole["gold"] == half["gold"]  # the same first policy
    # a longer loop goes on from the round that was only looked at
    run("dpo.py", *argv[:2], "--rounds", 2, *argv[4:])
    again = json.loads((tmp_path / "dpo" / "runs" / "URM--all-0-1.json").read_text())
    assert "pairs" in again and again["gold"] == rounds["URM--all-0-1.json"]["gold"]
    assert (tmp_path / "dpo" / "runs" / "URM--all-0-2.json").is_file()


def write_gz(path: Path, rows: list[dict]):
    with gzip.open(path, "wt") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def write_data(folder: Path) -> Path:
    """Files of the names that the laptop scale reads, some rows each."""
    folder.mkdir()
    names = ("correctness", "datacoverage", "fluency", "relevance", "textstructure")
    rated, pairs, candidates = [], [], []
    for number in range(48):
        split = "train" if number < 24 else "validation" if number < 32 else "test"
        prompt = [{"role": "user", "content": f"Question {number}?"}]
        ratings = {name: [float(number % 5), float((number + k) % 5)] for k, name in enumerate(names)}
        scale = {name: [0, 4] for name in names}
        answer = "word " * (1 + number % 4)
        rated.append({"prompt": prompt, "response": answer, "ratings": ratings, "scale": scale, "split": split})
        pairs.append(
            {"prompt": prompt, "chosen": f"Yes {number}.", "rejected": "No." * (1 + number % 3), "split": split}
        )
        if number >= 44:
            several = [{"response": f"Answer {k}.", "win": k / 4} for k in range(4)]
            candidates.append({"prompt": prompt, "candidates": several, "split": split})
    write_gz(folder / "ratings_webnlg2020.jsonl.gz", rated)
    write_gz(folder / "pairs_hh.jsonl.gz", pairs)
    for name, subset in (("pairs_llmbar", "llmbar-natural"), ("pairs_hep", "hep-python")):
        write_gz(folder / f"{name}.jsonl.gz", [row | {"subset": subset} for row in pairs[:8]])
    write_gz(folder / "bestofn_alpacaeval.jsonl.gz", candidates)
    return folder


@pytest.mark.slow
def test_from_data_to_the_page(run, module, tmp_path):
    data, base, out = write_data(tmp_path / "data"), tmp_path / "base", tmp_path / "out"
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.05)).save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    argv = ("--data", data, "--base", base, "--out", out)
    for step in ("train", "table1", "figure5", "figure6c", "table2", "figure7"):
        run(f"{step}.py", *argv)
    times = {path: path.stat().st_mtime_ns for path in (out / "models").glob("*/model.safetensors")}
    assert len(times) == 9 + 12 + 3 + 1  # attribute stages, gates, merges, Bradley-Terry
    run("train.py", *argv)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    quick = ("--seeds", 2, "--answers", 4)
    for name in ("grpo", "dpo"):
        module("world").make_policy(out / name / "policy", steps=20)
    run("grpo.py", *quick, "--steps", 2, "--completions", 16, "--out", out / "grpo")
    run("dpo.py", *quick, "--rounds", 1, "--candidates", 4, "--repeats", 2, "--out", out / "dpo")
    small = ("--candidates", 8, "--prompts", 3, "--seeds", 2, "--policies", 2, "--layers", 1)
    run("../overoptimisation.py", "--base", base, *small, "--out", out / "overoptimisation")
    run("page.py", "--out", out, "--docs", tmp_path / "docs")
    page = (tmp_path / "docs" / "paper.md").read_text()
    assert "<!--" not in page and page.count("**not shown**") > 0
    pictures = [line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")]
    assert len(pictures) == 9 and all((tmp_path / "docs" / name).is_file() for name in pictures)
