"""The command line: its help, its version, and what it loads."""

import subprocess
import sys
from pathlib import Path

import pytest

import urm_hf
from urm_hf.cli import COMMANDS, main


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_the_help_lists_every_command(capsys, argv):
    assert main(argv) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: urm COMMAND")
    assert [command for command in COMMANDS if f"\n  {command} " not in printed] == []


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"urm-hf {urm_hf.__version__}\n"


def test_an_unknown_command_is_named_with_the_known_ones(capsys):
    assert main(["scroe"]) == 2
    printed = capsys.readouterr()
    assert "unknown command 'scroe'" in printed.err and "  score " in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("command", ["score", "train attributes", "train gating", "train ensemble", "merge", "demo"])
def test_every_command_explains_its_options(capsys, command):
    with pytest.raises(SystemExit) as stop:
        main([*command.split(), "--help"])
    printed = capsys.readouterr().out
    assert stop.value.code == 0
    assert printed.startswith(f"usage: urm {command}")


def test_the_training_help_holds_the_flags_of_the_stage_and_of_trl(capsys):
    with pytest.raises(SystemExit):
        main(["train", "attributes", "--help"])
    printed = capsys.readouterr().out
    flags = [
        "--model_name_or_path",
        "--dataset_name",
        "--freeze_backbone",
        "--loss_type",
        "--learning_rate",
        "--use_peft",
    ]
    assert [flag for flag in flags if flag not in printed] == []


@pytest.mark.parametrize("argv, code", [([], 0), (["--help"], 0), (["gates"], 2)])
def test_train_without_a_stage_prints_its_usage(capsys, argv, code):
    assert main(["train", *argv]) == code
    assert "usage: urm train {attributes,gating" in capsys.readouterr().out


def test_the_installed_command_prints_its_help():
    command = Path(sys.executable).with_name("urm")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    finished = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "usage: urm COMMAND" in finished.stdout


def modules_after(program: str, code: str) -> list[str]:
    """Which heavy libraries are loaded when a program of that name has run `code`."""
    heavy = "[name for name in ('torch', 'transformers', 'trl', 'datasets') if name in sys.modules]"
    code = f"import sys; sys.argv = [{program!r}, '--help']; {code}; print('\\n', *{heavy})"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return finished.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("program", ["/somewhere/bin/urm", "Scripts/urm.exe", "Scripts/URM.EXE"])
@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_help_loads_neither_torch_nor_transformers(program, flag):
    assert modules_after(program, f"from urm_hf.cli import main; main([{flag!r}])") == []


@pytest.mark.parametrize("program", ["urm.py", "-c"])
def test_in_any_other_program_the_import_registers_the_models(program):
    code = "import urm_hf; from transformers import CONFIG_MAPPING; assert 'urm' in CONFIG_MAPPING"
    assert "torch" in modules_after(program, code)
