"""Flags: both spellings, hints, errors of few lines, help in sentences."""

import argparse
import importlib
import os
import subprocess
import sys

import pytest

from urm_hf.cli import COMMANDS, main
from urm_hf.cli.parser import Parser, describe_unknown, spell_flags
from urm_hf.cli.train import build_ensemble_parser

PARSERS = {
    name: importlib.import_module(module).build_parser for name, (module, _) in COMMANDS.items() if name != "train"
} | {"train ensemble": build_ensemble_parser}
POSITIONALS = {"judge": ["judge"], "push": ["folder", "org/name"], "demo": [], "train ensemble": []}
REQUIRED = {"judge": ["--base-url", "u"], "train ensemble": ["--attributes-config", "a.yaml"]}


def read_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                actions += read_actions(subparser)
    return actions


@pytest.mark.parametrize("command", PARSERS)
def test_every_help_text_is_a_sentence(command):
    texts = [action.help for action in read_actions(PARSERS[command]()) if action.dest not in ("layout",)]
    assert [
        text for text in texts if not text or not text[0].isupper() and text[:4] != "cpu," or text[-1] != "."
    ] == []


@pytest.mark.parametrize("command", sorted(set(PARSERS) - {"convert", "data", "verify", "merge", "demo"}))
def test_each_flag_is_read_under_both_spellings(command):
    parser = PARSERS[command]()
    for action in parser._actions:
        for flag in action.option_strings:
            if "-" in flag.lstrip("-"):
                assert parser.spell(flag.replace("-", "_").replace("__", "--", 1)) == flag


@pytest.mark.parametrize("command", ["score", "evaluate", "bestofn", "judge"])
def test_flags_of_data_are_read_under_their_names_in_trl(command):
    common = [*POSITIONALS.get(command, ["model"]), *REQUIRED.get(command, [])]
    ours = ["--data", "d", "--out", "o", "--data-revision", "r", "--data-config", "c"]
    theirs = ["--dataset_name", "d", "--output_dir=o", "--dataset_revision", "r", "--dataset-config", "c"]
    parse = PARSERS[command]().parse_args
    assert vars(parse([*common, *ours])) == vars(parse([*common, *theirs]))


def test_the_same_flag_takes_the_same_kind_of_value_in_all_commands():
    """But for flags of which `urm evaluate` takes one for each of several data sets."""
    kinds: dict[str, set] = {}
    for command, build in PARSERS.items():
        for action in read_actions(build()):
            for flag in action.option_strings:
                several = action.nargs == "+" and not (
                    command == "evaluate" and flag.startswith(("--data", "--split", "--format"))
                )
                kinds.setdefault(flag, set()).add((action.type, several, tuple(action.choices or ())))
    # outputs are files or folders; a revision is one for each model; `urm push` scores in one of three precisions; who
    # runs the model is a server for `urm score`, and vLLM for `urm serve`
    free = {"--out", "--revision", "--dtype", "--engine"}
    assert {flag: kind for flag, kind in kinds.items() if len(kind) > 1 and flag not in free} == {}


def test_what_follows_two_hyphens_is_no_flag():
    assert spell_flags(["--a_b", "--", "--a_b"], Parser().spell) == ["--a-b", "--", "--a_b"]
    assert describe_unknown(["--", "--x"], ["--data"]) is None


@pytest.mark.parametrize(
    "argv, told",
    [
        (["score", "M", "--dta", "x", "--out", "y"], "there is no --dta; did you mean --data?"),
        (["score", "M", "--data", "x", "--maxlength", "9"], "there is no --maxlength; did you mean --max-length?"),
        (["score", "M", "--data", "x", "--max-len", "9"], "there is no --max-len; did you mean --max-length?"),
        (["score", "M", "--data", "x", "--zzz", "9"], "there is no --zzz."),
        (["convert", "published", "a", "b", "--revison", "r"], "there is no --revison; did you mean --revision?"),
        (["convert", "publishd", "a", "b"], "invalid choice: 'publishd'"),
        (["score", "M"], "required: --data, --out"),
        (["train", "ensemble", "--atributes-config", "a"], "did you mean --attributes-config?"),
        (["score", "M", "--data", "x", "--out", "y", "--max_length", "many"], "invalid int value: 'many'"),
    ],
)
def test_a_usage_error_is_two_lines_that_say_what_is_wrong(capsys, argv, told):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and len(lines) == 2
    assert lines[0].startswith("usage: urm ") and "--help` lists them" in lines[0]
    assert lines[1].startswith("urm ") and ": error: " in lines[1] and told in lines[1]


@pytest.mark.parametrize("argv", [["scroe"], ["train", "gatign"]])
def test_a_misspelt_command_is_answered_with_a_known_one_in_a_few_lines(capsys, argv):
    assert main(argv) == 2
    printed = capsys.readouterr()
    told = printed.out + printed.err
    assert len(told.splitlines()) <= 10 and f"did you mean {'score' if argv == ['scroe'] else 'gating'}?" in told


def test_former_flags_are_taken():
    parsed = build_ensemble_parser().parse_args(["--attributes", "a", "--gating", "g", "--output_dir", "o"])
    assert (parsed.attributes_config, parsed.gating_config, parsed.out) == ("a", "g", "o")
    assert PARSERS["push"]().parse_args(["f", "org/n", "--new-card"]).overwrite_card
    judge = ["judge", "--base-url", "u", "--data", "d", "--out", "o", "--names", "paper"]
    assert PARSERS["judge"]().parse_args(judge).answer_names == "paper"


def test_the_package_runs_as_a_module():
    command = [sys.executable, "-m", "urm_hf", "--version"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert finished.stdout.startswith("urm-hf ")
