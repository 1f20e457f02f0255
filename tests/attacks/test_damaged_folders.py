"""Every kind of damaged folder through every command: one line or a result, no code, no write outside, no wait."""

import hashlib
import json
import random
import resource
import shutil
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.helpers.damaged_folders import CANARY, DAMAGES, OUTSIDE
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main

SECONDS = 120  # a command that needs as long hangs; all of them answer within a few
GROWTH = 1_500_000  # kB of memory beyond what the process had
PAIR = {"prompt": "Name a river.", "chosen": "The Po, in Italy.", "rejected": "Rome."}
RATED = {"prompt": "Why?", "response": "Because.", "ratings": {"help": 3, "depth": 1}}
COMMANDS = {
    "score": ["score", "{model}", "--data", "{here}/pairs.jsonl", "--out", "{out}.jsonl"],
    "verify": ["verify", "{model}"],
    "push": ["push", "{model}", "org/urm", "--dry-run"],
    "merge": ["merge", "{model}", "{here}/other-member", "--out", "{out}", "--log-std", "first"],
    "convert sglang": ["convert", "sglang", "{model}", "{out}"],
    "convert published": ["convert", "published", "{model}", "{out}"],
    "evaluate": ["evaluate", "{model}", "--data", "{here}/pairs.jsonl", "--out", "{out}"],
    "bestofn": ["bestofn", "{model}", "--data", "{here}/candidates.jsonl", "--out", "{out}"],
    "ensemble": ["score", "{model}", "{here}/other-member", "--data", "{here}/pairs.jsonl", "--out", "{out}.jsonl"],
    "train attributes": ["train", "attributes", "--dataset_name", "{here}/rated.jsonl"],
    "train gating": ["train", "gating", "--dataset_name", "{here}/pairs.jsonl"],
}
TRAINING = ["--model_name_or_path", "{model}", "--output_dir", "{out}", "--max_steps", "1", "--report_to", "none"]
SEEDS = (1, 2)
QUICK = ("score", "verify", "convert sglang")


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Two good models, and rows for the commands."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("good", "other-member")):
        save_with_tokenizer(tiny_urm(seed=seed, attributes=["help", "depth"]), folder / name)
    rows = {"pairs": [PAIR], "rated": [RATED] * 4, "candidates": [{"prompt": "Hi.", "candidates": ["Hello!", "No."]}]}
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    return folder


class Hangs(BaseException):
    """Not an error that a command could take for its own."""


@contextmanager
def within_bounds(what: str):
    """An error where something takes too long, or too much memory."""

    def stop(signum, frame):
        raise Hangs(f"{what} did not come to an end within {SECONDS} s")

    former, before = signal.signal(signal.SIGALRM, stop), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < GROWTH, f"{what} took {grown} kB"


def run(command: str, kind: str, seed: int, models: Path, tmp_path: Path, capsys):
    """A command on a model that was damaged so; what must hold of it is asserted."""
    here = tmp_path / f"{command}-{seed}"
    here.mkdir()
    for name in ("good", "other-member"):
        shutil.copytree(models / name, here / name)
    for rows in models.glob("*.jsonl"):
        shutil.copy(rows, here)
    shutil.copytree(here / "good", here / "model")
    (here / OUTSIDE).write_text("nobody's business")
    DAMAGES[kind](here / "model", random.Random(f"{kind}-{seed}"))
    before = {path: digest(path) for path in here.rglob("*") if (here / "model") not in path.parents}
    argv = COMMANDS[command] + (TRAINING if command.startswith("train") else [])
    argv = [word.format(model=here / "model", here=here, out=here / "out") for word in argv]
    capsys.readouterr()
    with within_bounds(f"urm {command} on {kind}"):
        code = main(argv)
    said = capsys.readouterr().err
    assert code in (0, 1, 2)
    if code == 2:
        lines = [line for line in said.splitlines() if line.startswith("urm ")]
        assert len(lines) == 1 and "error: " in lines[0], said
        assert len(lines[0].split("error: ")[1]) > 20, lines
    assert "Traceback" not in said
    assert not (here / CANARY).exists(), "code of the folder ran"
    after = {path: digest(path) for path in before}
    assert after == before, "something outside was changed"
    leftovers = [path.name for path in here.iterdir() if path.name.startswith(".")]
    assert not leftovers


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_folders_through_three_commands(kind, models, tmp_path, capsys, monkeypatch, record_property):
    record_property("trials", len(QUICK))
    monkeypatch.setattr("torch.load", refuse_pickles)
    for command in QUICK:
        run(command, kind, 0, models, tmp_path, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_folders_through_every_command(kind, command, models, tmp_path, capsys, monkeypatch, record_property):
    record_property("trials", len(SEEDS))
    monkeypatch.setattr("torch.load", refuse_pickles)
    for seed in SEEDS:
        run(command, kind, seed, models, tmp_path, capsys)


def refuse_pickles(*args, **kwargs):
    raise AssertionError("torch.load was reached")
