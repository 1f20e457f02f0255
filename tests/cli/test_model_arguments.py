"""What models are called where they are given no names."""

import pytest

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
