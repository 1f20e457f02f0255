"""
The recipes as their first lines say to launch them, with two CPU processes in place of GPUs and a tiny base: they give
the losses and the model of one process with the same global batch, in a folder that passes `urm verify`.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from tests.helpers.programs import LIMIT, run_command
from tests.helpers.recipe_stages import STAGES
from tests.helpers.reward_runs import tiny_reward_model
from tests.helpers.score_runs import write
from tests.helpers.tiny import WITHOUT_PACKAGE, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import assert_close, close
from tests.helpers.training import pair_rows, random_texts
from urm_hf.cli import main
from urm_hf.modeling.configuration_urm import HELPSTEER2_ATTRIBUTES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "examples" / "recipes"
AS_GPUS = ROOT / "tests" / "helpers" / "processes_as_gpus"
DEEPSPEED = Path(sys.prefix) / "deepspeed"
STEPS = ["--max_steps", "4", "--logging_steps", "1", "--save_steps", "2", "--dtype", "float32", "--bf16", "false"]
QUIET = ["--report_to", "none", "--disable_tqdm", "true"]
ZERO3 = pytest.param(
    "zero3.yaml",
    marks=pytest.mark.skipif(not DEEPSPEED.is_dir(), reason="DeepSpeed is not installed (make .venv/deepspeed)"),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, str]:
    """A language model, a URM, ratings as HelpSteer2 publishes them, and pairs."""
    folder, rng = tmp_path_factory.mktemp("inputs"), random.Random(0)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    rated = [
        {"prompt": f"question {n % 40}", "response": text, "split": "train" if n < 80 else "validation"}
        | {attribute: rng.randint(0, 4) for attribute in HELPSTEER2_ATTRIBUTES}
        for n, text in enumerate(random_texts(96))
    ]
    return {
        "base": str(folder / "base"),
        "urm": save_with_tokenizer(tiny_urm(), folder / "urm"),
        "rated": str(write(folder / "rated.jsonl", rated)),
        "pairs": str(write(folder / "pairs.jsonl", pair_rows(64))),
    }


def arguments(name: str, inputs: dict[str, str], out: Path, batch: int) -> list[str]:
    """Of `urm train`: the recipe, on small inputs."""
    stage, recipe, more = STAGES[name]
    model, data = (inputs["urm"], inputs["pairs"]) if stage == "gating" else (inputs["base"], inputs["rated"])
    places = ["--model_name_or_path", model, "--dataset_name", data, "--output_dir", str(out)]
    batches = ["--per_device_train_batch_size", str(batch)]
    if stage == "gating":
        places += ["--cache_dir", str(out.parent / f"cache-{batch}"), "--plots", "false"]
    return [stage, "--config", str(RECIPES / recipe), *places, *batches, *STEPS, *more, *QUIET]


def launch(launcher: str, argv: list[str]) -> list[str]:
    """The command line of the recipe, for two processes."""
    urm = str(Path(sys.executable).with_name("urm"))
    how = ["--config_file", str(RECIPES / launcher), "--num_processes", "2", "--mixed_precision", "no"]
    return [sys.executable, "-m", "accelerate.commands.launch", *how, urm, "train", *argv]


def environment() -> dict[str, str]:
    paths = [str(AS_GPUS), str(DEEPSPEED), *filter(None, sys.path)]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "DS_ACCELERATOR": "cpu",
    }
    return os.environ | own | {"PATH": os.pathsep.join([str(DEEPSPEED / "bin"), os.environ["PATH"]])}


def losses(folder: Path) -> dict[str, list[float]]:
    history = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return {name: [entry[name] for entry in history if name in entry] for name in ("loss", "eval_loss")}


def check_same(found: Path, expected: Path):
    ours, theirs = losses(found), losses(expected)
    assert len(ours["loss"]) == 4
    assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-4)
    assert_close(load_file(found / "model.safetensors"), load_file(expected / "model.safetensors"))


def check_published(folder: Path, capsys):
    """What is saved is what one process saves: it passes `urm verify`, and loads where the package is not."""
    assert not [path.name for path in folder.glob("*fsdp*")]
    assert main(["verify", str(folder)]) == 0, capsys.readouterr().out
    program = WITHOUT_PACKAGE + (
        "from transformers import AutoModel\nimport torch\n"
        f"model = AutoModel.from_pretrained({str(folder)!r}, trust_remote_code=True)\n"
        "print(model(torch.arange(3, 9)[None], torch.ones(1, 6)).logits.item())\n"
    )
    reward = float(run_command([sys.executable, "-c", program]).splitlines()[-1])
    assert abs(reward) < 1e3


CASES = [("fsdp2.yaml", "attributes"), ("fsdp2.yaml", "lora"), ("fsdp2.yaml", "gating")]


@pytest.mark.parametrize(
    "launcher, name", [*CASES, pytest.param(*ZERO3.values, "attributes", marks=ZERO3.marks)], ids=lambda value: value
)
def test_two_processes_train_what_one_trains(tmp_path, inputs, capsys, launcher, name):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *arguments(name, inputs, one, 8), "--use_cpu", "true"]) == 0
    printed = run_command(launch(launcher, arguments(name, inputs, two, 4)), env=environment())
    assert printed.count("Saved to") == 1
    check_same(two, one)
    check_published(two, capsys)


@pytest.mark.parametrize("launcher", ["fsdp2.yaml", ZERO3])
def test_two_processes_train_the_reward_model_of_one(tmp_path, inputs, launcher):
    """Under FSDP2 on packs, under ZeRO-3 padded."""
    base, paths = tmp_path / "base", [tmp_path / "one", tmp_path / "two"]
    tiny_reward_model().save_pretrained(base)
    tiny_tokenizer().save_pretrained(base)
    places = ["--model_name_or_path", str(base), "--dataset_name", inputs["pairs"], "--max_steps", "4"]
    argv = ["reward", *places, "--logging_steps", "1", "--dtype", "float32", "--bf16", "false", *QUIET]
    one, two = (
        [*argv, "--output_dir", str(path), "--per_device_train_batch_size", batch]
        for path, batch in zip(paths, ("8", "4"), strict=True)
    )
    assert main(["train", *one, "--use_cpu", "true"]) == 0
    printed = run_command(launch(launcher, two), env=environment())
    assert ("computed_tokens" in printed) == (launcher == "fsdp2.yaml")
    check_same(paths[1], paths[0])


@pytest.mark.parametrize("launcher", ["fsdp2.yaml", ZERO3])
def test_a_killed_run_ends_where_the_whole_one_does(tmp_path, inputs, launcher):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run_command(launch(launcher, arguments("attributes", inputs, whole, 4)), env=environment())
    shutil.copytree(whole / "checkpoint-2", parts / "checkpoint-2")  # what a run killed after step 2 leaves
    argv = [*arguments("attributes", inputs, parts, 4), "--resume_from_checkpoint", "true"]
    run_command(launch(launcher, argv), env=environment())
    found, expected = (load_file(folder / "model.safetensors") for folder in (parts, whole))
    assert found.keys() == expected.keys() and all(found[name].equal(expected[name]) for name in found)
    assert losses(parts)["loss"] == close(losses(whole)["loss"])


@pytest.mark.parametrize(
    "name, told", [("lora", "an adapter (`use_peft`)"), ("gating", "no process has the whole model")]
)
@pytest.mark.parametrize("launcher", [ZERO3])
def test_what_zero3_cannot_do_is_told_before_the_first_step(tmp_path, inputs, launcher, name, told):
    command = launch(launcher, arguments(name, inputs, tmp_path / "out", 4))
    ended = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False)
    assert ended.returncode != 0
    assert (
        f"urm train: error: {told}" in ended.stderr
        or f"urm train: error: under DeepSpeed ZeRO-3 {told}" in ended.stderr
    )
    assert "'loss'" not in ended.stdout
