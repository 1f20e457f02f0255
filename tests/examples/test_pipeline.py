"""examples/pipeline.sh, from rows to what would be pushed, on a tiny base."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.commands import write
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf.modeling import HELPSTEER2_ATTRIBUTES

SCRIPT = Path(__file__).parents[2] / "examples" / "pipeline.sh"


def save_base(folder: Path) -> str:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.slow
def test_rated_rows_become_an_ensemble_that_could_be_pushed(tmp_path):
    rated = [
        {"prompt": f"{i}?", "response": "Yes. " * (1 + i % 4), **dict.fromkeys(HELPSTEER2_ATTRIBUTES, [i % 4, 1])}
        for i in range(16)
    ]
    pairs = [{"prompt": f"{i}?", "chosen": "Yes. Yes.", "rejected": f"No {i}."} for i in range(8)]
    files = [write(tmp_path / f"{name}.jsonl", rows) for name, rows in (("ratings", rated), ("pairs", pairs))]
    out = tmp_path / "out"
    argv = [str(SCRIPT), save_base(tmp_path / "base"), *files, files[1], "org/urm", str(out)]
    settings = {"MEMBERS": "2", "EPOCHS": "1", "STEPS": "2", "DRY_RUN": "1", "URM_CACHE": str(tmp_path / "cache")}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    finished = subprocess.run(argv, env=os.environ | settings | {"PATH": path}, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-3000:]
    for name in ("org/urm-member-0/model.safetensors", "org/urm-member-1/model.safetensors"):
        assert name in finished.stdout
    assert json.loads((out / "ensemble" / "config.json").read_text())["strategy"] == "shared"
    scored = [json.loads(line) for line in (out / "scored.jsonl").read_text().splitlines()]
    assert len(scored) == 16 and all(row["reward_gap"] is not None for row in scored)
    assert (out / "evaluation" / "report.html").is_file()
