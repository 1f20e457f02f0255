"""`URMRewardTrainer` and `urm train reward`: TRL's training by another name, resumed, launched, and from files."""

import json
import os
import sys

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification
from trl import RewardConfig, RewardTrainer

from tests.helpers.programs import run_command
from tests.helpers.reward_runs import QUIET, losses, resumable_run, tiny_reward_model
from tests.helpers.score_runs import write
from tests.helpers.tiny import tiny_tokenizer
from tests.helpers.training import pair_rows
from urm_hf import RewardScorer
from urm_hf.cli import main
from urm_hf.trainers import URMRewardConfig, URMRewardTrainer


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts)]


FORMS = {
    "explicit prompt": {
        "prompt": messages("hi"),
        "chosen": messages("", "yes")[1:],
        "rejected": messages("", "no")[1:],
    },
    "implicit prompt": {"chosen": messages("hi", "yes"), "rejected": messages("hi", "no")},
    "two turns": {"chosen": messages("hi", "yes", "why?", "so"), "rejected": messages("hi", "yes", "why?", "no")},
    "text": {"prompt": "hi ", "chosen": "yes", "rejected": "no"},
    "whole text": {"chosen": "hi yes", "rejected": "hi no"},
}


@pytest.mark.parametrize("form", FORMS)
def test_token_ids_are_those_of_trl(tmp_path, form):
    rows = Dataset.from_list([FORMS[form]] * 2)
    made = {}
    for trainer, config in ((RewardTrainer, RewardConfig), (URMRewardTrainer, URMRewardConfig)):
        args = config(str(tmp_path), **QUIET)
        made[trainer] = trainer(tiny_reward_model(), args, train_dataset=rows, processing_class=tiny_tokenizer())
    ours, theirs = made[URMRewardTrainer].train_dataset, made[RewardTrainer].train_dataset
    for side in ("chosen_ids", "rejected_ids"):
        assert ours[side] == theirs[side]


def test_a_repeated_prompt_is_not_doubled(tmp_path):
    """Rows of UltraFeedback-binarized, which TRL trains on with the prompt twice."""
    row = {"prompt": "hi", "chosen": messages("hi", "yes"), "rejected": messages("hi", "no")}
    args = URMRewardConfig(str(tmp_path), **QUIET)
    rows, tokenizer = Dataset.from_list([row]), tiny_tokenizer()
    trainer = URMRewardTrainer(tiny_reward_model(), args, train_dataset=rows, processing_class=tokenizer)
    expected = tokenizer.apply_chat_template(row["chosen"], return_dict=False)
    assert trainer.train_dataset["chosen_ids"] == [expected]


@pytest.mark.parametrize("step", [3, 4, 5])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, step):
    """Batches by tokens, in the first epoch and in later ones, and between checkpoints."""
    whole = resumable_run(tmp_path / "whole")
    whole.train()
    parts = resumable_run(tmp_path / "parts", step)
    assert step < whole.state.global_step and len(whole.get_train_dataloader()) * 3 == whole.state.global_step
    with pytest.raises(KeyboardInterrupt):
        parts.train()
    resumed = resumable_run(tmp_path / "parts")
    resumed.train(resume_from_checkpoint=True)
    assert losses(resumed) == losses(whole)
    expected = whole.model.state_dict()
    assert all(value.equal(expected[name]) for name, value in resumed.model.state_dict().items())


LAUNCHED = """
import json, os, sys
from pathlib import Path
from tests.helpers.reward_runs import losses, resumable_run
folder = Path(sys.argv[1])
trainer = resumable_run(folder / "two", save_strategy="no", gradient_accumulation_steps=3)
trainer.train()
if trainer.is_world_process_zero():
    shares = [len(trainer.get_train_dataloader()), trainer.accelerator.num_processes]
    weights = {name: value.tolist() for name, value in trainer.model.state_dict().items() if "score" in name}
    (folder / "two.json").write_text(json.dumps([losses(trainer), shares, weights]))
trainer.accelerator.wait_for_everyone()
os._exit(0)  # an orderly exit now and then aborts in gloo's threads, after all that is tested here is done
"""


@pytest.mark.slow
def test_two_processes_weigh_rows_as_one_does(tmp_path):
    """Two processes with three micro-batches of unequal size each: the step of one process with all six."""
    (tmp_path / "script.py").write_text(LAUNCHED)
    paths = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_command([*launcher, str(tmp_path / "script.py"), str(tmp_path)], env=environment)
    found, (batches, processes), weights = json.loads((tmp_path / "two.json").read_text())
    assert processes == 2
    one = resumable_run(tmp_path / "one", save_strategy="no", gradient_accumulation_steps=2 * 3)
    if len(one.get_train_dataloader()) != 2 * batches:
        pytest.fail("the batches of one process are not those of two: choose rows that divide evenly")
    one.train()
    assert found == pytest.approx(losses(one), rel=1e-4)
    assert weights["score.weight"] == pytest.approx(one.model.state_dict()["score.weight"].numpy(), abs=1e-5)


@pytest.fixture
def base(tmp_path) -> str:
    folder = tmp_path / "base"
    tiny_reward_model().save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def command(base: str, data: str, out) -> list[str]:
    settings = ["--use_cpu", "true", "--report_to", "none", "--max_steps", "3", "--logging_steps", "1"]
    return ["train", "reward", "--model", base, "--data", data, "--out", str(out), *settings]


def test_a_reward_model_from_files(tmp_path, base):
    data = str(write(tmp_path / "pairs.jsonl", pair_rows(24)))
    out = tmp_path / "out"
    assert main([*command(base, data, out), "--eval_rows_held_out", "4"]) == 0
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert model.config.num_labels == 1
    before, after = (load_file(os.path.join(folder, "model.safetensors")) for folder in (base, out))
    assert not before["score.weight"].equal(after["score.weight"])
    assert json.loads((out / "eval_results.json").read_text())["eval_samples"] == 4
    scores = RewardScorer(str(out)).score([{"prompt": "hi", "response": "yes"}])
    assert torch.isfinite(torch.tensor(scores[0].reward))


def test_an_adapter_is_merged_into_its_model(tmp_path, base):
    data = str(write(tmp_path / "pairs.jsonl", pair_rows(24)))
    out, lora = tmp_path / "out", ["--use_peft", "--lora_r", "4", "--lora_target_modules", "all-linear"]
    assert main([*command(base, data, out), *lora]) == 0
    assert not (out / "adapter_config.json").exists()
    AutoModelForSequenceClassification.from_pretrained(out)
    assert main([*command(base, data, tmp_path / "kept"), *lora, "--save_adapter"]) == 0
    assert (tmp_path / "kept" / "adapter_config.json").exists()


def test_the_same_command_goes_on_and_ends(tmp_path, base):
    data = str(write(tmp_path / "pairs.jsonl", pair_rows(24)))
    argv = [*command(base, data, tmp_path / "out"), "--save_steps", "1"]
    assert main(argv) == 0
    expected = load_file(tmp_path / "out" / "model.safetensors")
    assert main([*argv, "--resume_from_checkpoint", "true"]) == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert all(found[name].equal(expected[name]) for name in expected)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--packing", "forest"], "`packing` must be one of tree, flat, none, got 'forest'"),
        (["--max_tokens_per_step", "20"], "more than `max_tokens_per_step` (20)"),
        (["--keep_best", "true"], "there is no --keep_best"),
    ],
)
def test_bad_input_is_told_in_one_line(tmp_path, base, capsys, more, message):
    data = str(write(tmp_path / "pairs.jsonl", pair_rows(8)))
    try:
        code = main([*command(base, data, tmp_path / "out"), *more])
    except SystemExit as error:
        code = error.code
    told = capsys.readouterr().err
    assert code == 2 and message in told and "Traceback" not in told
