"""The flags of `urm train attributes` and `urm train gating`: spellings, hints, config files, grouped help."""

import dataclasses
import re
import subprocess
import sys

import pytest

from urm_hf.cli.training_parser import TrainingParser
from urm_hf.trainers import URMAttributeConfig, URMGatingConfig, URMRewardConfig
from urm_hf.trainers.data_arguments import DataArguments

THEIRS = ["--dataset_name", "d", "--output_dir", "o", "--model_name_or_path", "m", "--max_length", "9"]
OURS = ["--data", "d", "--out", "o", "--model", "m", "--max-length", "9"]


def parse(*argv: str) -> tuple:
    return TrainingParser("attributes", URMAttributeConfig).parse_args_and_config(args=[*argv, "--use_cpu=true"])


def test_flags_are_read_under_both_vocabularies(tmp_path):
    config = tmp_path / "stage.yaml"
    config.write_text("data: d\nout: o\nmodel: m\nmax-length: 9\n")
    for argv in (THEIRS, OURS, ["--config", str(config)], [f"--config={config}"]):
        data, args, model = parse(*argv)
        assert (data.dataset_name, args.output_dir, model.model_name_or_path, args.max_length) == ("d", "o", "m", 9)
    assert parse("--config", str(config), "--max_length", "7")[1].max_length == 7


@pytest.mark.parametrize(
    "text, told",
    [
        ("lerning_rate: 1\n", "an option 'lerning_rate' that does not exist; did you mean learning_rate"),
        ("a: [1\n", "stage.yaml is no YAML: while parsing"),
        ("just words", "must contain a YAML mapping"),
        (None, "stage.yaml does not exist"),
    ],
)
def test_a_config_file_that_cannot_be_read_is_told(tmp_path, text, told):
    config = tmp_path / "stage.yaml"
    if text is not None:
        config.write_text(text)
    with pytest.raises(ValueError, match=told):
        parse(*THEIRS, "--config", str(config))
    with pytest.raises(ValueError, match="--config needs a file"):
        parse(*THEIRS, "--config")


@pytest.mark.parametrize(
    "flag, told",
    [
        ("--max_stesp", "did you mean --max_steps?"),
        ("--learning_rat", "did you mean --learning_rate?"),  # argparse would set the rate to 3
        ("--zzz", "there is no --zzz."),
    ],
)
def test_an_unknown_flag_is_answered_with_the_nearest(capsys, flag, told):
    with pytest.raises(SystemExit):
        parse(*THEIRS, flag, "3")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and told in lines[1] and lines[1].startswith("urm train attributes: error: ")


def test_a_missing_flag_is_told_in_two_lines(capsys):
    with pytest.raises(SystemExit):
        TrainingParser("gating", URMAttributeConfig).parse_args_and_config(args=["--output_dir", "o"])
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_help_lists_ours_first_and_each_flag_once():
    text = TrainingParser("attributes", URMAttributeConfig).format_help()
    first = [
        text.index(f"\n  {flag}") for flag in ("--dataset_name", "--freeze_backbone", "--use_peft", "--warmup_steps")
    ]
    assert first == sorted(first)
    flags = [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  --")]
    assert len(flags) == len(set(flags)) > 100 and not [flag for flag in flags if "-" in flag[2:]]


@pytest.mark.parametrize("config", [DataArguments, URMAttributeConfig, URMGatingConfig, URMRewardConfig])
def test_every_help_of_ours_is_a_sentence_that_says_what_the_option_is(config):
    ours = {name for base in config.__mro__ if "urm_hf" in base.__module__ for name in base.__annotations__}
    told = {field.name: field.metadata["help"] for field in dataclasses.fields(config) if field.name in ours}
    odd = {name for name, text in told.items() if not re.match(r"['A-Z]", text) or not text.endswith((".", ".png."))}
    assert odd == set() and not [name for name, text in told.items() if text.startswith("Default")]


@pytest.mark.parametrize("command", [[], ["train"], ["score"], ["cache"], ["push"]], ids="-".join)
def test_help_answers_without_loading_torch(command):
    """As `python -m urm_hf`, in a process of its own."""
    argv = [sys.executable, "-X", "importtime", "-m", "urm_hf", *command, "--help"]
    result = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("usage: urm")
    loaded = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if "|" in line}
    assert "urm_hf.cli" in loaded and not loaded & {"torch", "transformers", "trl", "datasets", "numpy"}
