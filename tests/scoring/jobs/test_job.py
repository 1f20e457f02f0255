"""`urm score` on files: what comes out, what is refused, and that nothing is lost or doubled when processes die."""

import json
import sys
from pathlib import Path

import pytest
import torch
from pyarrow import parquet

from tests.helpers.score_runs import ROWS, error_of, interrupted, rewards, score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.data.tables import read_jsonl


@pytest.fixture
def data(tmp_path) -> Path:
    return write(tmp_path / "rows.jsonl", ROWS)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_with_tokenizer(tiny_urm(), tmp_path_factory.mktemp("model") / "urm")


def expected_rewards(rows=ROWS) -> list[float]:
    return [score.reward for score in RewardScorer(tiny_urm(), tiny_tokenizer()).score(rows)]


# What comes out


@pytest.mark.parametrize("size", [1000, 60, 7])
def test_parts_of_any_size_give_the_scores_of_the_scorer(model, data, tmp_path, size):
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl", "--rows-per-part", size) == 0
    assert rewards(tmp_path / "out.jsonl") == close(expected_rewards())
    assert [row["id"] for row in read_jsonl(tmp_path / "out.jsonl")] == list(range(60))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.jsonl", "rows.jsonl"]


def test_parquet_holds_what_json_lines_hold(model, data, tmp_path):
    for name in ("out.jsonl", "out.parquet"):
        score(model, "--data", data, "--out", tmp_path / name, "--rows-per-part", 25)
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == list(read_jsonl(tmp_path / "out.jsonl"))


def test_standard_input_is_scored_as_the_file_is(model, data, tmp_path, monkeypatch):
    score(model, "--data", data, "--out", tmp_path / "file.jsonl")
    with open(data) as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert score(model, "--data", "-", "--out", tmp_path / "stdin.jsonl") == 0
    assert (tmp_path / "stdin.jsonl").read_bytes() == (tmp_path / "file.jsonl").read_bytes()
    assert not (tmp_path / "stdin.jsonl.parts").exists()


def test_every_candidate_and_both_of_a_pair_are_scored(model, tmp_path, capsys):
    candidates = [{"response": "Yes.", "model": "a"}, {"response": "No.", "model": "b"}]
    rows = [{"id": 1, "prompt": "A?", "candidates": candidates}, {"id": 2, "prompt": "B?", "candidates": candidates}]
    data = write(tmp_path / "rows.jsonl", rows)
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl") == 0
    out = list(read_jsonl(tmp_path / "out.jsonl"))
    assert [(row["id"], row["answer_index"], row["model"]) for row in out] == [
        (1, 0, "a"),
        (1, 1, "b"),
        (2, 0, "a"),
        (2, 1, "b"),
    ]
    flat = [{"prompt": row["prompt"], "response": c["response"]} for row in rows for c in candidates]
    assert [row["reward"] for row in out] == close(expected_rewards(flat))
    assert "2 rows in, 4 scored" in capsys.readouterr().err


def test_columns_of_other_names_are_read(model, tmp_path):
    data = write(tmp_path / "rows.jsonl", [{"q": row["prompt"], "a": row["response"]} for row in ROWS])
    out = tmp_path / "out.jsonl"
    assert score(model, "--data", data, "--out", out, "--prompt-column", "q", "--answer-columns", "a") == 0
    assert rewards(out) == close(expected_rewards())


def test_kept_is_what_is_no_less_sure_than_the_threshold(model, data, tmp_path):
    score(model, "--data", data, "--out", tmp_path / "plain.jsonl")
    stds = [row["reward_std"] for row in read_jsonl(tmp_path / "plain.jsonl")]
    threshold = sorted(stds)[20]
    filters = ["--filter-measure", "reward_std", "--filter-threshold", repr(threshold)]
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl", *filters) == 0
    assert [row["kept"] for row in read_jsonl(tmp_path / "out.jsonl")] == [std <= threshold for std in stds]


def test_an_ensemble_is_held_and_combined_as_told(model, tmp_path, data):
    other = save_with_tokenizer(tiny_urm(seed=1), tmp_path / "other")
    out = tmp_path / "out.jsonl"
    options = ["--strategy", "sequential", "--aggregation", "min", "--rows-per-part", "30"]
    assert score(model, other, "--data", data, "--out", out, *options) == 0
    expected = RewardScorer(URMEnsemble.from_pretrained([model, other], aggregation="min")).score(ROWS)
    assert rewards(out) == close([score.reward for score in expected])


# Rows that cannot be scored

BAD = [*ROWS[:3], {"prompt": "A?", "response": " "}, *ROWS[3:5], {"text": "z"}]


def test_rows_that_cannot_be_scored_are_skipped_on_request_and_counted(model, tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", BAD)
    with open(data, "a") as file:
        file.write('{"text": \n')
    out = tmp_path / "out.jsonl"
    assert score(model, "--data", data, "--out", out, "--on-error", "skip", "--rows-per-part", 2) == 0
    assert [row.get("id") for row in read_jsonl(out)] == [0, 1, 2, 3, 4, None]
    skipped = list(read_jsonl(f"{out}.skipped.jsonl"))
    assert [row["row"] for row in skipped] == [3, 7]
    assert "`response` is empty" in skipped[0]["reason"] and "not JSON" in skipped[1]["reason"]
    assert json.loads(skipped[0]["data"]) == BAD[3] and skipped[1]["data"] == '{"text": '
    assert f"8 rows in, 6 scored, 2 SKIPPED (see {out}.skipped.jsonl)" in capsys.readouterr().err


def test_a_bad_candidate_is_named_with_its_row(model, tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", [{"prompt": "A?", "candidates": ["Yes.", " "]}])
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl") == 2
    assert (
        "row 0: `response` is empty. Fill it in, or leave the row out. (`candidates`, answer 1) (--on-error skip"
        in error_of(capsys)
    )


def test_a_reward_that_is_not_finite_is_an_error_that_names_the_row_or_is_skipped(tmp_path, capsys):
    broken = tiny_urm()
    with torch.no_grad():
        broken.get_input_embeddings().weight[tiny_tokenizer()("z")["input_ids"][0]] = float("nan")
    data = write(tmp_path / "rows.jsonl", BAD)
    model, out = save_with_tokenizer(broken, tmp_path / "broken"), tmp_path / "out.jsonl"
    readable = write(tmp_path / "readable.jsonl", BAD[4:7])
    assert score(model, "--data", readable, "--out", tmp_path / "no.jsonl", "--rows-per-part", 2) == 2
    assert "the model gave the reward nan" in error_of(capsys)
    assert score(model, "--data", data, "--out", out, "--on-error", "skip", "--rows-per-part", 2) == 0
    assert "7 rows in, 5 scored, 2 SKIPPED" in capsys.readouterr().err
    skipped = list(read_jsonl(f"{out}.skipped.jsonl"))
    assert [row["row"] for row in skipped] == [3, 6]
    assert "row 6: the model gave the reward nan" in skipped[1]["reason"]


@pytest.mark.parametrize(
    "argv, error",
    [
        (["--filter-measure", "reward_std"], "--filter-measure and --filter-threshold go together."),
        (
            ["--filter-measure", "doubt", "--filter-threshold", "1"],
            "--filter-measure must be one of attribute_variance",
        ),
        (["--rows-per-part", "0"], "--rows-per-part must be positive, got 0."),
        (["--num-processes", "0"], "--num-processes must be positive, got 0."),
        (["--answer-columns", "reply"], "row 0: column `reply` is missing or null"),
        (["--filter-measure", "reward_gap", "--filter-threshold", "1"], "reward_gap"),
    ],
)
def test_options_that_do_not_fit_are_told(model, data, tmp_path, capsys, argv, error):
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl", *argv) == 2
    assert error in error_of(capsys)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_an_output_of_unknown_type_is_told_before_anything_is_loaded(data, tmp_path, capsys):
    assert score("absent/model", "--data", data, "--out", tmp_path / "out.txt") == 2
    assert "unknown type of output" in error_of(capsys)


# Going on


def test_a_run_goes_on_where_it_stopped(model, data, tmp_path, monkeypatch):
    from urm_hf.scoring.jobs.job import PartScorer

    out = tmp_path / "out.jsonl"
    score(model, "--data", data, "--out", tmp_path / "whole.jsonl", "--rows-per-part", 10)
    interrupted(model, data, out, monkeypatch)
    assert not out.exists()
    worked, usual = [], PartScorer.score_part
    monkeypatch.setattr(PartScorer, "score_part", lambda self, number: worked.append(number) or usual(self, number))
    assert score(model, "--data", data, "--out", out, "--rows-per-part", 10) == 0
    assert worked == [3, 4, 5]
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize(
    "change, told",
    [("data", "data was"), ("model", "model was"), ("setting", "limits was"), ("size", "rows_per_part was 10, is 20")],
)
def test_parts_are_not_mixed_with_those_of_another_model_data_or_setting(
    data, tmp_path, monkeypatch, capsys, change, told
):
    folder = tmp_path / "model"
    model = save_with_tokenizer(tiny_urm(), folder)
    out = tmp_path / "out.jsonl"
    interrupted(model, data, out, monkeypatch)
    argv = ["--rows-per-part", 20 if change == "size" else 10]
    if change == "data":
        write(data, ROWS[::-1])
    elif change == "model":
        save_with_tokenizer(tiny_urm(seed=3), folder)
    elif change == "setting":
        argv += ["--max-length", 100]
    assert score(model, "--data", data, "--out", out, *argv) == 2
    error = error_of(capsys)
    assert "parts of another job, which must not be mixed" in error and told in error
    assert not out.exists()


def test_ray_that_is_not_installed_is_named(model, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert score(model, "--data", data, "--out", tmp_path / "out.jsonl", "--engine", "ray") == 2
    assert "pip install 'urm-hf[ray]'" in error_of(capsys)
