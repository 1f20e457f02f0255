"""A command that has done its work finds, when it is started again, that nothing is left to do."""

import io
import json
import sys
from pathlib import Path

import pytest

from tests.helpers.score_runs import ROWS, error_of, score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from urm_hf import URMEnsemble
from urm_hf.scoring.jobs.job import PartScorer


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture
def no_scoring(monkeypatch):
    """Whoever scores, or so much as loads a model, from now on fails."""

    def begin():
        def refuse(*args, **kwargs):
            raise AssertionError("a model was loaded")

        monkeypatch.setattr("urm_hf.scoring.jobs.job.RewardScorer.__init__", refuse)

    return begin


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("out.jsonl", []),
        ("out.parquet", ["--num-processes", 1]),
        ("out.jsonl.gz", ["--max-length", 200, "--truncation", "left", "--dtype", "bfloat16"]),
    ],
)
def test_the_same_command_has_nothing_to_do(saved_urm, data, tmp_path, capsys, no_scoring, name, more):
    argv = [saved_urm, "--data", data, "--out", tmp_path / name, *more]
    assert score(*argv) == 0
    told, content = capsys.readouterr().err.splitlines()[-1], (tmp_path / name).read_bytes()
    no_scoring()
    assert score(*argv) == 0
    assert capsys.readouterr().err.splitlines()[-1] == f"Already done. {told}"
    assert (tmp_path / name).read_bytes() == content and not Path(f"{tmp_path / name}.parts").exists()


@pytest.mark.parametrize("saved", [False, True], ids=["named", "saved"])
def test_ensembles_too(data, tmp_path, no_scoring, saved):
    models = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / f"member{seed}") for seed in range(2)]
    if saved:
        URMEnsemble.from_pretrained(models).save_pretrained(tmp_path / "ensemble")
        models = [str(tmp_path / "ensemble")]
    argv = [*models, "--data", data, "--out", tmp_path / "out.jsonl", "--strategy", "sequential"]
    assert score(*argv) == 0
    no_scoring()
    assert score(*argv) == 0


def test_standard_input_too(saved_urm, data, tmp_path, monkeypatch, no_scoring):
    argv = [saved_urm, "--data", "-", "--out", tmp_path / "out.jsonl"]
    for _ in range(2):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data.read_bytes())))
        assert score(*argv) == 0
        assert not (tmp_path / "out.jsonl.parts").exists()
        no_scoring()


def change_output(model, data, out):
    out.write_bytes(out.read_bytes().replace(b"Answer 1.", b"Answer 9."))


def change_data(model, data, out):
    write(data, ROWS[:-1])


def change_model(model, data, out):
    tiny_urm(seed=1).save_pretrained(model)


def lose_side_file(model, data, out):
    out.with_name(f"{out.name}.skipped.jsonl").unlink()


@pytest.mark.parametrize("change", [change_output, change_data, change_model, lose_side_file])
def test_whatever_else_exists_is_refused(saved_urm, data, tmp_path, capsys, change):
    write(data, [*ROWS, {"prompt": "A?", "response": " "}])
    out = tmp_path / "out.jsonl"
    argv = [saved_urm, "--data", data, "--out", out, "--on-error", "skip"]
    assert score(*argv) == 0
    change(saved_urm, data, out)
    content = out.read_bytes()
    assert score(*argv) == 2
    assert "exists and is not an unfinished output of this job" in error_of(capsys)
    assert out.read_bytes() == content


def test_other_settings_are_another_job(saved_urm, data, tmp_path, capsys, no_scoring):
    argv = [saved_urm, "--data", data, "--out", tmp_path / "out.jsonl"]
    assert score(*argv) == 0
    no_scoring()  # it is refused before a model is loaded
    assert score(*argv, "--max-length", 100, "--truncation", "left") == 2
    assert "exists and is not" in error_of(capsys)


def test_what_may_be_overwritten_is_scored_again(saved_urm, data, tmp_path, monkeypatch):
    argv = [saved_urm, "--data", data, "--out", tmp_path / "out.jsonl"]
    assert score(*argv) == 0
    parts, usual = [], PartScorer.score_part
    monkeypatch.setattr(PartScorer, "score_part", lambda self, number: parts.append(number) or usual(self, number))
    assert score(*argv, "--overwrite") == 0
    assert parts == [0]


def test_a_run_that_was_killed_while_it_cleaned_up_is_ended_first(saved_urm, data, tmp_path, monkeypatch):
    argv, parts = [saved_urm, "--data", data, "--out", tmp_path / "out.jsonl"], tmp_path / "out.jsonl.parts"
    with monkeypatch.context() as patched:
        patched.setattr("urm_hf.scoring.jobs.parts.PartFolder._remove", lambda self: None)
        assert score(*argv) == 0
    assert (tmp_path / "out.jsonl").is_file() and parts.is_dir()
    assert score(*argv) == 0
    assert not parts.exists()


def test_without_a_cache_that_can_be_written_to_the_output_is_there_all_the_same(
    saved_urm, data, tmp_path, capsys, monkeypatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "file" / "cache"))
    argv = [saved_urm, "--data", data, "--out", tmp_path / "out.jsonl"]
    assert score(*argv) == 0
    assert score(*argv) == 2
    assert "exists and is not" in error_of(capsys)


@pytest.mark.parametrize("content", ["", "[]", "{", "{}", '{"files": 3}', '{"files": {"/absent": "1"}}'])
def test_a_damaged_record_is_none(saved_urm, data, tmp_path, monkeypatch, content):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    argv = [saved_urm, "--data", data, "--out", tmp_path / "out.jsonl"]
    assert score(*argv) == 0
    (record,) = (tmp_path / "cache" / "finished").iterdir()
    assert json.loads(record.read_text())["counts"]["scored"] == len(ROWS)
    record.write_text(content)
    assert score(*argv) == 2
