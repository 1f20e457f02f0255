"""
Whatever rows a file holds, a command reads them or says in one line why not: no traceback, no row lost.

Every file goes through the whole command, in this process, with a tiny model.
"""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, Trainer

from tests.helpers.judge_runs import run as run_judge
from tests.helpers.judge_server import judge_of_a_test
from tests.helpers.row_strategies import GOOD, PLACE, ROWS, Made, files_of, write_rows
from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer
from urm_hf.cli import main
from urm_hf.scoring.jobs.job import ScoreJob

# without shrinking: a command takes so long that a smaller failing file is not worth hundreds of them
PHASES = [Phase.explicit, Phase.reuse, Phase.generate]
FEW = settings(max_examples=5, deadline=None, phases=PHASES, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=1000)
SCORED = [*GOOD["conversation"], *GOOD["pair"], *GOOD["candidates"]]
PAIRS = GOOD["pair"]
LISTS = GOOD["candidates"]
RATED = [row | {"helpfulness": n % 5, "correctness": 1} for n, row in enumerate(GOOD["conversation"][:8])]
QUIET = ["--report_to", "none", "--use_cpu", "true", "--disable_tqdm", "true", "--save_strategy", "no"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return save_with_tokenizer(tiny_urm(attributes=["help", "depth"]), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("backbone")
    AutoModelForCausalLM.from_config(tiny_backbone_config()).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def scored_once(model, monkeypatch):
    """The model is loaded once, not for each file."""
    scorer = RewardScorer(model)
    monkeypatch.setattr(ScoreJob, "scorer", lambda job, device: scorer)


@pytest.fixture
def fresh(tmp_path) -> Callable[[], Path]:
    """A new folder for each file."""
    numbers = itertools.count()

    def make() -> Path:
        folder = tmp_path / f"rows-{next(numbers)}"
        folder.mkdir()
        return folder

    return make


def refuse_constant(name: str):
    raise AssertionError(f"{name} is no JSON")


def read_strictly(path: Path) -> list[dict[str, Any]]:
    """Rows of an output, which must be JSON as the standard has it, or Parquet."""
    if path.suffix == ".parquet":
        rows = pyarrow.parquet.read_table(path).to_pylist()
        json.dumps(rows, allow_nan=False, default=str)
        return rows
    return [json.loads(line, parse_constant=refuse_constant) for line in path.read_bytes().splitlines()]


def check_told(command: str, path: Path, told: str, *, names_row: bool = True):
    """One line that names the file and, where the fault is of a row, its number."""
    lines = [line for line in told.splitlines() if ": error: " in line]
    assert len(lines) == 1 and lines[0].startswith(f"urm {command}: error: "), told
    assert "Traceback" not in told
    assert path.name in lines[0] or path.stem in lines[0] or "train dataset" in lines[0], lines[0]
    if names_row:
        assert "row " in lines[0] or "rows" in lines[0], lines[0]


# score


def check_score(folder: Path, model: str, rows: list[Made], kinds: tuple[str, str], on_error: str, capsys):
    data, out = folder / f"rows.{kinds[0]}", folder / f"scores.{kinds[1]}"
    write_rows(data, rows)
    code = main(["score", model, "--data", str(data), "--out", str(out), "--on-error", on_error, "--device", "cpu"])
    told = capsys.readouterr().err
    if code != 0:
        assert code == 2 and not out.exists()
        check_told("score", data, told)
        if on_error == "skip":  # a row in which a column is in the way of the scores is a fault of the file
            assert "overwrite" in told, told
        return
    skipped_file = out.with_name(f"{out.name}.skipped.jsonl")
    skipped = read_strictly(skipped_file) if skipped_file.exists() else []
    left_out = [row["row"] for row in skipped]
    scored = {row[PLACE] for row in read_strictly(out)}
    assert sorted(scored | set(left_out)) == list(range(len(rows))) and not scored & set(left_out)
    assert len(set(left_out)) == len(left_out) and all(row["reason"] for row in skipped)
    assert set(left_out) >= {number for number, row in enumerate(rows) if row.bad}
    assert on_error == "skip" or not skipped


SCORE_KINDS = st.sampled_from([("jsonl", "jsonl"), ("jsonl", "parquet")])


@FEW
@given(rows=files_of(SCORED), kinds=SCORE_KINDS)
def test_score_writes_or_skips_every_row(fresh, capsys, model, scored_once, rows, kinds):
    check_score(fresh(), model, rows, kinds, "skip", capsys)


@FEW
@given(rows=files_of(SCORED, lines=False), out=st.sampled_from(["jsonl", "parquet"]))
def test_score_writes_or_skips_every_row_of_parquet(fresh, capsys, model, scored_once, rows, out):
    check_score(fresh(), model, rows, ("parquet", out), "skip", capsys)


@FEW
@given(rows=files_of(SCORED), kinds=SCORE_KINDS)
def test_score_names_the_row_that_it_cannot_score(fresh, capsys, model, scored_once, rows, kinds):
    check_score(fresh(), model, rows, kinds, "raise", capsys)


@pytest.mark.slow
@MANY
@given(rows=files_of(SCORED, rows=10), kinds=SCORE_KINDS)
def test_score_writes_or_skips_every_one_of_ten_thousand_rows(fresh, capsys, model, scored_once, rows, kinds):
    check_score(fresh(), model, rows, kinds, "skip", capsys)


# evaluate


def check_evaluate(folder: Path, model: str, rows: list[Made], capsys):
    data, out = folder / "rows.jsonl", folder / "out"
    write_rows(data, rows)
    argv = ["evaluate", model, "--data", str(data), "--out", str(out), "--on-error", "skip", "--device", "cpu"]
    code = main([*argv, "--bootstrap-samples", "20"])
    told = capsys.readouterr().err
    if code != 0:
        assert code == 2 and not (out / "results.json").exists()
        check_told("evaluate", data, told)
        return
    results = json.loads((out / "results.json").read_bytes(), parse_constant=refuse_constant)
    (described,) = results["data"]
    assert sum(described["skipped"].values()) >= sum(row.bad for row in rows)
    assert described["rows"] + sum(described["skipped"].values()) >= len(rows)


@FEW
@given(rows=files_of(PAIRS))
def test_evaluate_measures_or_counts_every_row(fresh, capsys, model, rows):
    check_evaluate(fresh(), model, rows, capsys)


# bestofn


def check_bestofn(folder: Path, model: str, rows: list[Made], capsys):
    data, out = folder / "rows.jsonl", folder / "out"
    write_rows(data, rows)
    code = main(["bestofn", model, "--data", str(data), "--out", str(out), "--device", "cpu"])
    told = capsys.readouterr().err
    if code != 0:
        assert code == 2 and not (out / "chosen.jsonl").exists()
        check_told("bestofn", data, told)
        return
    assert not any(row.bad for row in rows)
    assert len(read_strictly(out / "chosen.jsonl")) == len(rows)


@FEW
@given(rows=files_of(LISTS, rows=3))
def test_bestofn_chooses_of_every_row_or_names_one(fresh, capsys, model, rows):
    check_bestofn(fresh(), model, rows, capsys)


# judge


def check_judge(folder: Path, fake, rows: list[Made], capsys):
    data = folder / "rows.jsonl"
    write_rows(data, rows)
    code = run_judge(fake, data)
    told = capsys.readouterr().err
    if code != 0:
        assert code == 2 and not (folder / "judged.jsonl").exists()
        check_told("judge", data, told)
        return
    judged = read_strictly(folder / "judged.jsonl")
    assert [row[PLACE] for row in judged] == list(range(len(rows)))


@FEW
@given(rows=files_of(PAIRS, rows=3))
def test_judge_asks_about_every_row_or_names_one(fresh, capsys, rows):
    with pytest.MonkeyPatch.context() as patch, judge_of_a_test(patch) as fake:
        check_judge(fresh(), fake, rows, capsys)


# data


def check_data(folder: Path, rows: list[Made], capsys):
    data = folder / "rows.jsonl"
    write_rows(data, rows)
    code = main(["data", str(data), "--json"])
    printed = capsys.readouterr()
    found = json.loads(printed.out, parse_constant=refuse_constant)
    if code != 0:
        assert code == 2 and not found["kinds"]
        check_told("data", data, printed.err)
    problems = found["problems"].values()
    named = {number for problem in problems for number in problem["first"]}
    assert found["rows"] == len(rows)
    # what only a tokenizer or a model refuses is not told here
    assert named >= {number for number, row in enumerate(rows) if isinstance(row.content, bytes)}
    assert sum(found["kinds"].values()) + sum(problem["rows"] for problem in problems) >= len(rows)


@FEW
@given(rows=files_of(ROWS))
def test_data_surveys_every_row(fresh, capsys, rows):
    check_data(fresh(), rows, capsys)


@pytest.mark.slow
@MANY
@given(rows=files_of(ROWS, rows=10))
def test_data_surveys_every_one_of_ten_thousand_rows(fresh, capsys, rows):
    check_data(fresh(), rows, capsys)


# train


@pytest.fixture
def no_steps(monkeypatch):
    """Training ends before its first step, when all rows were read."""

    class Ready(Exception):
        pass

    def stop(trainer, *_, **__):
        raise Ready

    monkeypatch.setattr(Trainer, "train", stop)
    return Ready


def check_train(stage: str, folder: Path, model: str, rows: list[Made], on_error: str, no_steps, capsys):
    data, out = folder / "rows.jsonl", folder / "trained"
    write_rows(data, rows)
    argv = ["train", stage, "--model_name_or_path", model, "--dataset_name", str(data), "--output_dir", str(out)]
    extra = {"gating": ["--cache_features", "false"], "attributes": ["--attributes", "helpfulness", "correctness"]}
    code, ready = 0, False
    try:
        code = main([*argv, *QUIET, *extra[stage], "--on_error", on_error, "--max_steps", "1"])
    except no_steps:
        ready = True
    told = capsys.readouterr().err
    side_files = [out / f"train.{kind}.jsonl" for kind in ("unreadable", "skipped")]
    left_out = [row for file in side_files if file.exists() for row in read_strictly(file)]
    if not ready:
        assert code == 2, told
        check_told("train", data, told)
        return
    assert on_error == "skip" or not left_out
    assert {row["row"] for row in left_out} >= {number for number, row in enumerate(rows) if row.bad}
    assert all(row["reason"] for row in left_out)
    for row in left_out:  # told by its number in the file
        assert row.get("data", {}).get(PLACE, row["row"]) == row["row"]


ON_ERROR = st.sampled_from(["skip", "skip", "raise"])


@FEW
@given(rows=files_of(PAIRS), on_error=ON_ERROR)
def test_gating_trains_on_every_row_or_tells_it(fresh, capsys, model, no_steps, rows, on_error):
    check_train("gating", fresh(), model, rows, on_error, no_steps, capsys)


@FEW
@given(rows=files_of(RATED), on_error=ON_ERROR)
def test_attributes_train_on_every_row_or_tell_it(fresh, capsys, backbone, no_steps, rows, on_error):
    check_train("attributes", fresh(), backbone, rows, on_error, no_steps, capsys)


@pytest.mark.slow
@settings(FEW, max_examples=100)
@given(rows=files_of(PAIRS, rows=100), on_error=ON_ERROR)
def test_gating_trains_on_or_tells_every_one_of_ten_thousand_rows(fresh, capsys, model, no_steps, rows, on_error):
    check_train("gating", fresh(), model, rows, on_error, no_steps, capsys)
