"""What models are called where they are given no names."""

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf import URMEnsemble
from urm_hf.cli import main
from urm_hf.cli.model_arguments import short_names, split_members


def test_models_are_called_by_the_ends_of_their_paths(tmp_path):
    (tmp_path / "a.jsonl.gz").touch()
    sources = ["org/urm-8b", str(tmp_path), str(tmp_path / "a.jsonl.gz"), "org/x,org/y"]
    assert short_names(sources) == ["urm-8b", tmp_path.name, "a", "x+y"]


def test_equal_ends_are_told_apart_by_what_stands_before_them():
    assert short_names(["one/urm", "two/urm", "three/other"]) == ["one-urm", "two-urm", "other"]
    with pytest.raises(ValueError, match="a model is named twice: org/urm, org/urm"):
        short_names(["org/urm", "org/urm"])


def test_an_ensemble_is_written_with_commas(tmp_path, capsys):
    assert split_members(["a,b,c"], None) == (["a", "b", "c"], None)
    assert split_members(["a,b"], ["r,s"]) == (["a", "b"], ["r", "s"])
    assert split_members(["one"], ["main"]) == (["one"], ["main"])
    (tmp_path / "a,b").mkdir()
    assert split_members([str(tmp_path / "a,b")], None) == ([str(tmp_path / "a,b")], None)
    assert capsys.readouterr().err == ""


def test_separate_members_are_taken_with_a_word(capsys):
    assert split_members(["a", "b"], ["r", "s"]) == (["a", "b"], ["r", "s"])
    assert "write an ensemble as a,b" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["verify", "nowhere/none"], ["merge", "nowhere/none", "nowhere/other", "--out", "merged"]]
)
def test_a_repository_that_cannot_be_asked_for_is_named(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(command) == 2
    assert "nowhere/none is no folder here, and the Hub cannot be asked" in capsys.readouterr().err


def test_a_port_of_the_page_that_is_none_is_refused(capsys):
    assert main(["app", "model", "--port", "99999"]) == 2
    assert "--port must be at most 65535, got 99999" in capsys.readouterr().err


def test_training_names_the_models_of_a_folder_that_is_none(tmp_path, capsys):
    members = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / "run" / f"member-{seed}") for seed in range(2)]
    URMEnsemble.from_pretrained(members).save_pretrained(tmp_path / "run" / "ensemble")
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "a?", "chosen": "b", "rejected": "c"}] * 4)

    def told(model: str) -> str:
        options = ["--dataset_name", pairs, "--use_cpu", "true", "--report_to", "none", "--out", str(tmp_path / "out")]
        assert main(["train", "gating", "--model", model, *options]) == 2
        return capsys.readouterr().err

    around = told(str(tmp_path / "run"))
    assert "holds no model: it has no config.json. Name one of those in it: " in around and members[0] in around
    assert "is an ensemble, and this trains one model: name one of its members" in told(str(tmp_path / "run/ensemble"))
