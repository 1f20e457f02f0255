"""The kinds of models in the paper's Table 1, as tiny stand-ins, in one table of `urm evaluate`."""

import json

import pytest
import torch
from transformers import LlamaForSequenceClassification

from tests.helpers.evaluations import run, value, write
from tests.helpers.foreign_models import gated_model, reward_token_model
from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_backbone_config, tiny_urm
from urm_hf import RewardScorer

ROWS = [
    {"prompt": [{"role": "user", "content": f"{n}?"}], "chosen": f"yes, {n}", "rejected": "no" * (n % 5 + 1)}
    for n in range(12)
]


def write_verdicts(path) -> str:
    """Of a judge that is right where the number is even."""
    rows = []
    for n, row in enumerate(ROWS):
        verdict, preferred = ("loss", "b") if n % 2 else ("win", "a")
        told = {f"preferred_{order}": preferred for order in ("a_first", "b_first")}
        rows.append(row | {"verdict": verdict, "consistent": True} | told)
    return write(path, rows)


def test_every_kind_of_model_is_a_row_of_one_table(tmp_path, capsys):
    torch.manual_seed(3)
    scalar = LlamaForSequenceClassification(tiny_backbone_config(num_labels=1, initializer_range=0.3))
    members = save_members(tmp_path / "members", [tiny_urm(seed=seed) for seed in range(2)])
    models = {
        "bradley-terry": save_with_tokenizer(scalar, tmp_path / "scalar"),  # Skywork-Reward, GRM, TRL's
        "armo": gated_model(tmp_path / "gated", summed=True),  # ArmoRM, QRM: own code, several outputs, one reward
        "internlm2": reward_token_model(tmp_path / "internlm2"),
        "urm": members[0],
        "urme": ",".join(members),
        "judge": write_verdicts(tmp_path / "judged.jsonl"),
    }
    data = write(tmp_path / "pairs.jsonl", ROWS)
    results = run(tmp_path, *models.values(), "--names", *models, "--data", data, "--trust-remote-code")
    kinds = {entry["name"]: entry["kind"] for entry in results["models"] if entry["kind"] != "baseline"}
    assert list(kinds.values()) == ["scalar", "scalar", "scalar", "urm", "ensemble", "judge"]
    for name in ("bradley-terry", "armo", "internlm2"):
        scorer = RewardScorer(models[name], trust_remote_code=True)
        sides = [
            scorer.score([{"prompt": r["prompt"], "response": r[side]} for r in ROWS])
            for side in ("chosen", "rejected")
        ]
        right = [a.reward > b.reward for a, b in zip(*sides, strict=True)]
        assert value(results, name, "accuracy") == pytest.approx(sum(right) / len(ROWS)), name
    assert value(results, "judge", "accuracy") == 0.5
    compared = {frozenset((entry["model_a"], entry["model_b"])) for entry in results["comparisons"]}
    assert frozenset(("internlm2", "judge")) in compared and frozenset(("urme", "armo")) in compared
    assert json.loads((tmp_path / "out" / "results.json").read_text())["data"][0]["rows"] == 12
