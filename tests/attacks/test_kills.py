"""
Every writer, killed before operations on files that are spread over its whole run, and run again: the same bytes, and
nothing left beside them. `python -m tests.attacks` prints how many kills there were.
"""

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.helpers.judge_runs import ROWS as PAIRS
from tests.helpers.judge_runs import run as judge_run
from tests.helpers.judge_server import judge_of_a_test
from tests.helpers.kills import KILLED, begin
from tests.helpers.members import save_member
from tests.helpers.programs import LIMIT
from tests.helpers.score_runs import ROWS, score, write
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from tests.helpers.training import pair_rows, rated_rows
from urm_hf.cli import main

KILLS = int(os.environ.get("URM_KILLS", 8))  # of each writer
PROMISE = "`urm {}`, killed at any moment and started again, gives the same bits and leaves nothing beside them"
STEPS = ["--max_steps", "4", "--save_steps", "2", "--per_device_train_batch_size", "4", "--logging_steps", "1"]
EVALUATION = ["--eval_rows_held_out", "4", "--eval_strategy", "steps", "--eval_steps", "1"]
QUIET = ["--report_to", "none", "--use_cpu", "true", "--disable_tqdm", "true"]
TRAINING = ["--resume_from_checkpoint", "true", *STEPS, *EVALUATION, *QUIET]
ATTRIBUTES = ["--attributes", "help", "depth", "--learning_rate", "1e-3"]
PRELOADED = [
    __name__,
    "urm_hf.scoring.jobs.processes",
    "urm_hf.judge.job",
    "urm_hf.trainers.runs",
    "transformers.models.llama",
]


@pytest.fixture
def base(tmp_path) -> str:
    """A language model to put heads on."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def run_score(model: str, data: Path, out: Path) -> int:
    torch.set_num_threads(1)
    return score(model, "--data", data, "--out", out, "--rows-per-part", 20, "--on-error", "skip")


def run_merge(members: list[str], out: Path) -> int:
    torch.set_num_threads(1)
    return main(["merge", *members, "--out", str(out), "--log-std", "average", "--max-shard-size", "70KB"])


def run_convert(model: str, out: Path) -> int:
    torch.set_num_threads(1)
    return main(["convert", "sglang", model, str(out), "--pad-gate"])


def run_training(stage: str, model: str, data: Path, out: Path) -> int:
    torch.set_num_threads(1)
    argv = ["--model_name_or_path", model, "--dataset_name", str(data), "--output_dir", str(out), *TRAINING]
    return main(["train", stage, *argv, *(ATTRIBUTES if stage == "attributes" else [])])


class Address:
    def __init__(self, url: str):
        self.url = url


def run_judge(url: str, data: Path, out: str) -> int:
    return judge_run(Address(url), data, "--concurrency", 1, out=out)


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def end(folder: Path, stop: int, function, arguments) -> int:
    """The exit code of a process that is killed before an operation; with 0 it only counts them."""
    process = begin(str(folder), stop, function, arguments, PRELOADED)
    process.join(LIMIT)
    return process.exitcode


def kill_and_finish(
    folder: Path, function, arguments, record, *, is_done=lambda place: False, left=lambda files: files
):
    """
    Kills runs that write to a folder, each before another operation, and lets the same command end.

    Args:
        record: pytest's `record_property`.
        is_done: whether an output is finished, so that a command that makes a new one refuses to.
        left: what of the folder's content is compared.
    """
    folder.mkdir()
    assert end(folder, 0, function, arguments) == 0
    whole = left(read_all(folder))
    operations = int(Path(f"{folder}.operations").read_text())
    chosen = range(1, operations + 1)
    if operations > KILLS:
        chosen = sorted(random.Random(0).sample(chosen, KILLS))
    record("trials", len(chosen))
    for stop in chosen:
        where = f"operation {stop} of {operations}"
        shutil.rmtree(folder)
        folder.mkdir()
        assert end(folder, stop, function, arguments) == KILLED, where
        # in this process: it has no less to clean up, and needs no start
        assert function(*arguments) == 0 or is_done(folder), where
        assert left(read_all(folder)) == whole, where


@pytest.mark.slow
@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_score(tmp_path, saved_urm, record_property, name):
    record_property("promise", PROMISE.format("score"))
    rows = [*ROWS[:30], {"prompt": "A?", "response": " "}, *ROWS[30:]]
    data, folder = write(tmp_path / "rows.jsonl", rows), tmp_path / "work"
    kill_and_finish(folder, run_score, (saved_urm, data, folder / name), record_property)


@pytest.mark.slow
def test_judge(tmp_path, monkeypatch, record_property):
    record_property("promise", PROMISE.format("judge"))
    folder = tmp_path / "work"
    with judge_of_a_test(monkeypatch) as judge:
        data = write(tmp_path / "pairs.jsonl", PAIRS[:4])
        out = os.path.join("work", "judged.jsonl")

        def without_order(content):
            """Replies stay; a request that was killed before it was kept is asked again, and stands further down."""
            replies = content.pop(os.path.join("judged.jsonl.replies", "replies.jsonl")).splitlines()
            return content | {
                "replies": sorted(replies, key=lambda line: json.dumps(json.loads(line), sort_keys=True))
            }

        kill_and_finish(folder, run_judge, (judge.url, data, out), record_property, left=without_order)


@pytest.mark.slow
def test_merge(tmp_path, record_property):
    record_property("promise", PROMISE.format("merge"))
    members = [save_member(tmp_path / str(seed), seed) for seed in range(2)]
    folder = tmp_path / "work"
    done = lambda place: (place / "merged").is_dir()  # noqa: E731
    kill_and_finish(folder, run_merge, (members, folder / "merged"), record_property, is_done=done)


@pytest.mark.slow
def test_convert(tmp_path, saved_urm, record_property):
    record_property("promise", PROMISE.format("convert"))
    folder = tmp_path / "work"
    done = lambda place: (place / "converted").is_dir()  # noqa: E731
    kill_and_finish(folder, run_convert, (saved_urm, folder / "converted"), record_property, is_done=done)


def model_of(files: dict[str, bytes]) -> dict[str, bytes]:
    """
    Weights, tokenizer and template of the model and of its checkpoints: logs have times in them, and safetensors
    writes the notes on a best head in any order.
    """
    kept = ("model.safetensors", "tokenizer.json", "chat_template.jinja", "config.json")
    return {name: content for name, content in files.items() if Path(name).name in kept}


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["attributes", "gating"])
def test_train(tmp_path, base, saved_urm, record_property, stage):
    record_property("promise", PROMISE.format(f"train {stage}"))
    rows, model = (rated_rows(16), base) if stage == "attributes" else (pair_rows(16), saved_urm)
    data, folder = write(tmp_path / "rows.jsonl", rows), tmp_path / "work"
    kill_and_finish(folder, run_training, (stage, model, data, folder / "out"), record_property, left=model_of)
