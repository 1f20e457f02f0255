"""What models are called where they are given no names."""

import pytest

from urm_hf.cli.model_arguments import short_names


def test_models_are_called_by_the_ends_of_their_paths(tmp_path):
    (tmp_path / "a.jsonl.gz").touch()
    sources = ["org/urm-8b", str(tmp_path), str(tmp_path / "a.jsonl.gz"), "org/x,org/y"]
    assert short_names(sources) == ["urm-8b", tmp_path.name, "a", "x+y"]


def test_equal_ends_are_told_apart_by_what_stands_before_them():
    assert short_names(["one/urm", "two/urm", "three/other"]) == ["one-urm", "two-urm", "other"]
    with pytest.raises(ValueError, match="a model is named twice: org/urm, org/urm"):
        short_names(["org/urm", "org/urm"])
