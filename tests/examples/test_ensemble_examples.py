"""The examples that train and examine an ensemble run from end to end, on tiny models."""

import json
import os
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.programs import run_command
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf.modeling import URMEnsemble

ROOT = Path(__file__).parents[2]
PARTS = ["train"] * 6 + ["validation"] * 3 + ["test"] * 4


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A chat model, ratings, pairs and prompts."""
    folder = tmp_path_factory.mktemp("examples")
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder / "lm")
    tiny_tokenizer().save_pretrained(folder / "lm")

    def asked(number: int) -> list[dict]:
        return [{"role": "user", "content": f"What is said about number {number}, and what is not?"}]

    ratings, pairs = [], []
    for number, part in enumerate(PARTS * 8):
        row = {"prompt": asked(number % 5), "split": part}
        ratings.append(row | {"response": f"It is {number} or more words.", "ratings": {"help": [number % 5, 2]}})
        pairs.append(row | {"chosen": f"It is {number}.", "rejected": f"Not {number}, I think."})
    write(folder / "ratings.jsonl", ratings)
    write(folder / "pairs.jsonl", pairs)
    write(
        folder / "prompts.jsonl",
        [{"prompt": [{"role": "user", "content": f"Do {n}!"}], "split": "test"} for n in range(40)],
    )
    return folder


def run(place: Path, script: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "URM_CACHE": str(place / "cache")}
    command = [sys.executable, str(ROOT / "examples" / script), *arguments]
    return run_command(command, cwd=place, env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["heads", "adapters"])
def test_an_ensemble_is_trained_and_examined(place, kind):
    members = ["--members", "2", "--gating_steps", "4"] + (["--lora_epochs", "1"] if kind == "adapters" else [])
    ratings = ["--ratings", "ratings.jsonl", "--pairs", "pairs.jsonl"]
    run(place, "ensemble_members.py", "--base", "lm", "--attributes", "help", *ratings, *members, "--out", kind)
    ensemble = URMEnsemble.from_pretrained(str(place / kind / "ensemble"))
    assert ensemble.strategy == "shared" and ensemble.shares_backbone == (kind == "heads")
    examined = ["--prompts", "prompts.jsonl", "--policy", "lm", "--bootstrap_samples", "20", "--out", f"{kind}-out"]
    printed = run(place, "unfamiliar.py", "--ensemble", f"{kind}/ensemble", *ratings, *examined)
    assert "## hard prompts, standardised" in printed and "| reward_gap |" in printed
    results = json.loads((place / f"{kind}-out" / "results.json").read_text())
    assert results["pairs"]["n"] == 56 and len(results["unfamiliar"]) == 8
    drawn = {path.name for path in (place / f"{kind}-out").glob("*.png")}
    assert {"measures.png", "accuracy_kept.png"} <= drawn and ("densities.png" in drawn) == (kind == "heads")
