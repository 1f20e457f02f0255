"""What the library says of its arguments, as the command line says it of its flags."""

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf.cli import main
from urm_hf.cli.flags_in_errors import spell_as_flags


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ('Leave it out: `on_error="skip"`.', "Leave it out: `--on-error skip`."),
        ("set `skip_unrated=True`", "set `--skip-unrated`"),
        ("it exists (`overwrite=True`, `--overwrite`)", "it exists (`--overwrite`)"),
        ("`max_length=12` or `--max-length 12`", "`--max-length 12` or `--max-length 12`"),
        ("a switch cannot be unset: `skip_unrated=False`", "a switch cannot be unset: `skip_unrated=False`"),
        ("no flag of it: `beta=0.5`", "no flag of it: `beta=0.5`"),
        ("`freeze_backbone=False` of training", "`--freeze_backbone false` of training"),
        ("the rating {'a': 1}, `x` and x=1", "the rating {'a': 1}, `x` and x=1"),
    ],
)
def test_arguments_become_flags(message, told):
    flags = ["--on-error", "--skip-unrated", "--overwrite", "--max-length", "--freeze_backbone"]
    assert spell_as_flags(message, flags) == told


def test_commands_speak_of_their_flags(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    model = save_with_tokenizer(tiny_urm(attributes=["help"]), tmp_path / "urm")
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a?", "chosen": "b", "rejected": "b"}] * 2)
    options = ["--dataset_name", pairs, "--use_cpu", "true", "--report_to", "none"]
    assert main(["train", "gating", "--model", model, *options, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.rstrip().endswith("Or leave such rows out: `--on_error skip`.")
    rated = write(tmp_path / "rows.jsonl", [{"prompt": "a", "response": "b", "help": 1}])
    (tmp_path / "attributes.yaml").write_text(f"model_name_or_path: {model}\ndataset_name: {rated}\n")
    (tmp_path / "gating.yaml").write_text(f"dataset_name: {pairs}\n")
    files = [
        "--attributes-config",
        str(tmp_path / "attributes.yaml"),
        "--gating-config",
        str(tmp_path / "gating.yaml"),
    ]
    assert main(["train", "ensemble", *files, "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert "=" not in told and "`on_error: skip`" in told
