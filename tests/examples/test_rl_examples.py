"""The examples on RL run as a user would start them, on tiny models; and the policy of the best-of-n one."""

import importlib.util
import json
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A policy, two URMs and a file of prompts."""
    folder = tmp_path_factory.mktemp("rl")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.02)).save_pretrained(folder / "policy")
    tiny_tokenizer().save_pretrained(folder / "policy")
    for seed in range(2):
        save_with_tokenizer(tiny_urm(seed=seed), folder / f"urm-{seed}")
    rows = [{"prompt": [{"role": "user", "content": f"Number {k}?"}]} for k in range(4)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: str(folder / name) for name in ("policy", "urm-0", "urm-1", "prompts.jsonl")}


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs an example as the main module, in this process: a process of its own would spend its time on imports."""

    def run_script(script: str, *argv: str) -> str:
        monkeypatch.setenv("URM_CACHE", str(tmp_path))
        monkeypatch.setattr(sys, "argv", [script, *argv])
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
        return capsys.readouterr().out

    return run_script


def test_grpo_trains_a_policy_on_a_penalised_ensemble_and_draws_it(run, folders, tmp_path):
    out = tmp_path / "out"
    rewards = ("--reward", folders["urm-0"], folders["urm-1"], "--measure", "reward_gap", "--coefficient", "0.5")
    sizes = ("--max_steps", "2", "--num_generations", "4", "--per_device_train_batch_size", "4")
    quick = ("--max_completion_length", "8", "--use_cpu", "--bf16", "false", "--report_to", "none")
    files = ("--policy", folders["policy"], "--prompts", folders["prompts.jsonl"], "--output_dir", str(out))
    printed = run("grpo.py", *files, *rewards, *sizes, *quick)
    assert f"Saved the policy to {out} and {out / 'training.png'}" in printed
    assert (out / "training.png").read_bytes().startswith(b"\x89PNG")
    assert "'kl':" in printed and "uncertainty_penalized_reward/reward_gap/mean" in printed
    trained, before = (AutoModelForCausalLM.from_pretrained(folder) for folder in (out, folders["policy"]))
    assert not torch.equal(trained.get_input_embeddings().weight, before.get_input_embeddings().weight)


def test_a_round_of_dpo_prints_what_was_left_out_and_both_tables(run, folders, tmp_path):
    out = tmp_path / "out"
    files = ("--policy", folders["policy"], "--prompts", folders["prompts.jsonl"], "--out", str(out))
    filtering = ("--measure", "reward_gap", "--threshold", "9", "--min_probability", "0.51")
    sizes = ("--candidates", "4", "--max_new_tokens", "8", "--learning_rate", "1e-3")
    printed = run("iterative_dpo.py", *files, "--reward", folders["urm-0"], folders["urm-1"], *filtering, *sizes)
    assert "pairs from 16 candidates for 4 prompts. Left out: 0 empty" in printed
    table = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("|")]
    assert table == ["answers", "before", "after"]
    AutoModelForCausalLM.from_pretrained(out)
    assert AutoTokenizer.from_pretrained(out).chat_template == tiny_tokenizer().chat_template


def test_rounds_of_dpo_keep_a_share_and_go_on_where_they_were_interrupted(run, folders, tmp_path):
    files = ("--policy", folders["policy"], "--prompts", folders["prompts.jsonl"], "--out", str(tmp_path))
    sizes = ("--candidates", "4", "--max_new_tokens", "8", "--learning_rate", "1e-3")
    argv = ("iterative_dpo.py", *files, "--reward", folders["urm-0"], folders["urm-1"], *sizes)
    printed = run(*argv, "--measure", "reward_gap", "--keep", "0.5", "--rounds", "2")
    told = [line for line in printed.splitlines() if "uncertain candidates (above" in line]
    assert len(told) == 2 and int(re.search(r"(\d+) uncertain", told[0])[1]) >= 6  # half of 16, less repeated ones
    first = (tmp_path / "round-1" / "model.safetensors").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "round-2")
    printed = run(*argv, "--measure", "reward_gap", "--keep", "0.5", "--rounds", "2")
    assert "1 of 2 rounds are there" in printed and "| after round 2 |" in printed
    assert (tmp_path / "round-1" / "model.safetensors").stat().st_mtime_ns == first


def test_overoptimisation_prints_a_table_for_each_policy_and_draws_it(run, folders, tmp_path):
    argv = ("--base", folders["policy"], "--layers", "1", "--candidates", "8", "--prompts", "3", "--seeds", "1")
    printed = run("overoptimisation.py", *argv, "--out", str(tmp_path), "--bootstrap_samples", "20")
    assert "plain policy" in printed and "wild policy" in printed
    assert (tmp_path / "overoptimisation.png").read_bytes().startswith(b"\x89PNG")
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["n"] == [1, 2, 4, 8]
    for policy in ("plain", "wild"):
        first = [curve["mean"][0] for rule, curve in results[policy].items() if "believes" not in rule]
        assert first == pytest.approx([first[0]] * len(first), abs=1e-3)  # one candidate: nothing is chosen
        best = results[policy]["gold"]["mean"]
        assert best == sorted(best)
        assert all(curve["mean"][-1] <= best[-1] for rule, curve in results[policy].items() if "believes" not in rule)


def test_gains_and_their_intervals_are_those_of_resampled_policies_seeds_and_prompts(example):
    rng = np.random.default_rng(0)
    curve, base = rng.normal(size=(2, 3, 4, 5)), rng.normal(size=(2, 3, 4, 5))
    draws = example.draw_samples((2, 3, 4), 4000)
    assert draws.shape == (4000, 2, 3, 4) and np.allclose(draws.sum((1, 2, 3)), 1)
    found = example.summarise(curve, base, draws)
    assert np.allclose(found["mean"], curve.mean((0, 1, 2))) and np.allclose(
        found["gain"], (curve - base).mean((0, 1, 2))
    )
    by_hand = []
    for _ in range(4000):  # each level drawn by itself
        policies, seeds, prompts = (rng.integers(0, size, size) for size in (2, 3, 4))
        by_hand.append((curve - base)[np.ix_(policies, seeds, prompts)].mean((0, 1, 2)))
    spread = np.std(by_hand, axis=0)
    assert np.allclose(np.quantile(by_hand, 0.025, axis=0), found["gain_low"], atol=0.15 * spread.max())
    assert np.allclose(np.quantile(by_hand, 0.975, axis=0), found["gain_high"], atol=0.15 * spread.max())


def test_further_policies_of_a_kind_have_habits_of_their_own(example):
    first, second, third = (example.vary_policy("wild", number) for number in range(3))
    assert first == example.POLICIES["wild"] and second == example.vary_policy("wild", 1) != third
    for longest, habits in (second, third):
        assert longest == first[0] and list(habits) == list(first[1]) and sum(habits.values()) == pytest.approx(1)


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("overoptimisation", ROOT / "examples" / "overoptimisation.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Scripted:
    """A generator that draws these kinds, and always the first sentence of a kind."""

    def __init__(self, kinds: list[str]):
        self.kinds = np.array(kinds)

    def integers(self, low, high):
        return len(self.kinds)

    def choice(self, options, size=None, p=None):
        return options[0] if size is None else self.kinds

    def permutation(self, words):
        return words[::-1]


@pytest.mark.parametrize(
    ("kinds", "text", "truth"),
    [
        (["right"], "A is so.", [2, 4, 4]),
        (["right", "right", "wrong", "praise"], "A is so. A is so. C is so. {praise}", [2, 3, 1]),
        (["fluff", "off_topic"], "Well. D.", [0, 2, 4 / 3]),
        (["scrambled"], "so. is A", [0, 0, 2]),
        (["shouted", "right"], "A IS SO. A is so.", [2, 4, 2]),
    ],
)
def test_the_gold_reward_counts_what_an_answer_says(example, kinds, text, truth):
    prompt = {"question": "?", "right": ["A is so.", "B is so."], "wrong": ["C is so."], "off_topic": ["D."]}
    written, ratings = example.write(prompt | {"fluff": ["Well."]}, example.POLICIES["wild"], Scripted(kinds))
    assert written == text.format(praise=example.PRAISE[0])
    assert ratings == pytest.approx(truth)
