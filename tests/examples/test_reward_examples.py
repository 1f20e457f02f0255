"""The examples and benchmarks of packed training run as a user would start them, on a tiny base."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from tests.helpers.programs import run_command
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A tiny base, and ratings and pairs under the names and in the splits of the files that were measured."""
    folder = tmp_path_factory.mktemp("rewards")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    ratings, pairs = [], []
    for split, count in {"train": 24, "validation": 6, "test": 6}.items():
        for i in range(count):
            prompt = [{"role": "user", "content": f"{split} {i // 3}, what do you say to that?"}]
            ratings.append({"prompt": prompt, "response": "x" * (i + 1), "split": split})
            ratings[-1]["ratings"] = {name: [i % 5, (i + 1) % 5] for name in ("correctness", "fluency")}
            pairs.append({"prompt": prompt, "chosen": "y" * (i + 2), "rejected": f"z{i}", "split": split})
    for name, rows in (("ratings", ratings), ("pairs_hh", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"base": str(folder / "base"), "folder": str(folder)} | {
        name: str(folder / f"{name}.jsonl") for name in ("ratings", "pairs_hh")
    }


def run(script: str, *argv: str) -> str:
    paths = os.pathsep.join([str(ROOT / "benchmarks"), *filter(None, sys.path)])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": paths}
    return run_command([sys.executable, str(ROOT / script), *argv], env=environment)


@pytest.mark.parametrize("kind", [[], ["--urm"]], ids=["scalar", "urm"])
def test_a_reward_model_trains_as_with_trl(files, tmp_path, kind):
    out = tmp_path / "reward"
    argv = ["--base", files["base"], "--pairs", files["pairs_hh"], "--out", str(out), "--steps", "4", "--batch", "6"]
    printed = run("examples/train_reward_model.py", *argv, "--learning_rate", "1e-3", "--compare", *kind)
    assert "4 steps of 6 pairs" in printed
    apart = float(printed.split("largest difference ")[1].split()[0])
    assert apart < 1e-3
    assert (out / "losses.png").stat().st_size > 5000
    (AutoModel if kind else AutoModelForSequenceClassification).from_pretrained(out)


def test_packs_are_measured_against_padded_batches(files):
    common = [files["folder"], "--base", files["base"], "--n", "24"]
    for more in ([], ["--peft"], ["--grouped"]):
        printed = run("benchmarks/packed_training.py", *common, "--rows", "pairs_hh", "equal", *more)
        assert printed.count("x [") == 2
    assert run("benchmarks/packed_training.py", *common, "--rows", "pairs_hh", "--memory", "packs").count("GiB") == 2


def test_the_gpu_benchmark_runs_anywhere():
    printed = run("benchmarks/gpu.py")
    rows = [line.split("|") for line in printed.splitlines() if line.startswith(("| flat", "| tree"))]
    assert len(rows) == 4 and all(float(row[5]) < 0.02 for row in rows)


def test_a_model_trains_in_full_and_beside_its_frozen_twin(files, tmp_path):
    out = tmp_path / "out"
    argv = [files["base"], files["ratings"], files["pairs_hh"], str(out), "correctness fluency", files["pairs_hh"]]
    settings = {"EPOCHS": "1", "STEPS": "2", "URM_CACHE": str(tmp_path / "cache")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    command = [str(ROOT / "examples" / "full_and_frozen.sh"), *argv]
    finished = subprocess.run(command, env=os.environ | settings | {"PATH": path}, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for part in ("ratings", "pairs"):
        assert (out / part / "results.json").is_file()
