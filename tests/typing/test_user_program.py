"""The public names as a user's type checker and Python see them."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import urm_hf
import urm_hf.trainers
from tests.helpers.tiny import save_members, tiny_urm
from urm_hf import _HOMES

HERE = Path(__file__).parent
PROGRAM = HERE / "user_program.py"
MISUSED = """
from urm_hf import RewardScorer, compute_uncertainty, filter_scores, push
from urm_hf.trainers import URMAttributeTrainer, URMGatingTrainer

RewardScorer("a").score([], 5)
number: int = RewardScorer("a")([])
compute_uncertainty([], measure=5)
filter_scores([], "total", keep="half")
push("a", "org/a", overwrite_card="yes")
URMAttributeTrainer("a", args=3)
URMGatingTrainer("a", callbacks=3)
"""


def check(program: Path, folder: Path) -> list[str]:
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--config-file", HERE / "mypy.ini", "--cache-dir", folder, program]
    # where this is installed in editable mode, its finder tells Python the place and mypy nothing
    environment = os.environ | {"MYPYPATH": str(HERE.parents[1])}
    finished = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    errors = [line for line in finished.stdout.splitlines() if ": error:" in line]
    # found by that path, the package is checked as strictly as the program, which it need not be
    return [line for line in errors if Path(line.split(":")[0]).name == program.name]


def test_the_program_is_clean_under_mypy_strict_and_misuse_is_found(tmp_path):
    assert check(PROGRAM, tmp_path) == []
    misused = tmp_path / "misused.py"
    misused.write_text(MISUSED)
    lines = {int(re.search(r":(\d+): error", line).group(1)) for line in check(misused, tmp_path)}
    assert lines == set(range(5, len(MISUSED.splitlines()) + 1))


def test_the_program_uses_every_public_name():
    tree = ast.parse(PROGRAM.read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    used |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert {*urm_hf.__all__, *urm_hf.trainers.__all__} - used == set()


def test_the_list_of_names_is_that_of_their_homes():
    assert urm_hf.__all__ == sorted(_HOMES)
    assert [name for name in urm_hf.__all__ if getattr(urm_hf, name) is None] == []


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_program_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    models = [tiny_urm(seed=seed, attributes=["helpfulness", "clarity"]) for seed in range(3)]
    folders = save_members(tmp_path / "members", models)
    monkeypatch.setattr(sys, "argv", ["user_program.py", str(tmp_path / "out"), *folders])
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert "average" in capsys.readouterr().out
