"""The flags of `urm train attributes` and `urm train gating`: spellings, hints, config files, grouped help."""

import pytest

from urm_hf.cli.training_parser import TrainingParser
from urm_hf.trainers import URMAttributeConfig

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
    [("--max_stesp", "did you mean --max_steps?"), ("--freeze-backbon", None), ("--zzz", "there is no --zzz.")],
)
def test_an_unknown_flag_is_answered_with_the_nearest(capsys, flag, told):
    if told is None:  # the beginning of a flag stands for it
        assert parse(*THEIRS, flag, "true")[1].freeze_backbone
        return
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
