"""The command line: its help, its version, and what it loads."""

import os
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
    assert "unknown command 'scroe'" in printed.err and " score," in printed.err
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
    assert "usage: urm train {reward,attributes,gating" in capsys.readouterr().out


def test_the_installed_command_prints_its_help():
    command = Path(sys.executable).with_name("urm")
    if not command.exists():
        pytest.skip("the package is not installed in this environment")
    finished = subprocess.run([command, "--help"], capture_output=True, text=True, check=True)
    assert "usage: urm COMMAND" in finished.stdout


def modules_after(script: Path, code: str) -> list[str]:
    """Which heavy libraries are loaded when a script of that path has run `code`."""
    heavy = "[name for name in ('torch', 'transformers', 'trl', 'datasets') if name in sys.modules]"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(f"import sys\n{code}\nprint('\\n', *{heavy})\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(script), "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return finished.stdout.splitlines()[-1].split()


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_the_installed_command_s_help_loads_neither_torch_nor_transformers(tmp_path, flag):
    code = f"sys.executable = {str(tmp_path / 'python')!r}\nfrom urm_hf.cli import main\nmain([{flag!r}])"
    assert modules_after(tmp_path / "urm", code) == []  # a script beside the interpreter


def test_in_any_other_program_the_import_registers_the_models(tmp_path):
    """Each in a process of its own, for which transformers is loaded once."""
    code = "import urm_hf\nfrom transformers import CONFIG_MAPPING\nassert 'urm' in CONFIG_MAPPING"
    each = (
        "import os, runpy, transformers",
        f"open({str(tmp_path / 'registers.py')!r}, 'w').write({code!r})",
        "for program in ('urm', 'urm.py', 'train.py'):",
        "    if os.fork() == 0:",
        "        sys.modules['__main__'].__file__ = os.path.join(os.path.dirname(__file__), program)",
        f"        runpy.run_path({str(tmp_path / 'registers.py')!r})",
        "        os._exit(0)",
        "    assert os.wait()[1] == 0, program",
    )
    assert "transformers" in modules_after(tmp_path / "all.py", "\n".join(each))


@pytest.mark.parametrize(
    "argv, told",
    [
        (["ood", "absent.jsonl", "absent.jsonl"], "absent.jsonl: no such file."),
        (["filter", "absent.jsonl", "--keep", "1", "--out", "kept.jsonl"], "absent.jsonl: no such file."),
        (["data", "rows.jsonl", "--model", "./absent"], "./absent is no folder here, and no name of a repository"),
        (["data", "rows.jsonl", "--model", "absent"], "absent is no folder here, and the Hub cannot be asked"),
        (["score", "/absent/urm", "--data", "rows.jsonl", "--out", "x.jsonl"], "/absent/urm is no folder here"),
        (["posterior", "/absent/urm", "--data", "rows.jsonl", "--out", "x"], "/absent/urm is no folder here"),
        (
            ["train", "attributes", "--model", "/absent/lm", "--data", "rows.jsonl", "--out", "x"],
            "/absent/lm is no folder",
        ),
        (["convert", "urm", "--out", "x"], "invalid choice: 'urm'"),
    ],
)
def test_what_is_not_there_is_named_in_a_line(tmp_path, monkeypatch, capsys, argv, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "response": "b", "help": 1}\n')
    try:
        code = main(argv)
    except SystemExit as error:  # of the parser
        code = error.code
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and last.startswith(f"urm {argv[0]}: error: ") and told in last
