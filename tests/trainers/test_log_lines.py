"""What a run prints of its numbers."""

import json
import math

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, rated_rows
from urm_hf.cli import main
from urm_hf.trainers.log_lines import MOST_IN_A_LINE, drop_undefined, shorten_log


def test_what_is_not_defined_is_left_out():
    assert drop_undefined({"a": math.nan, "b": 0.0, "c": "nan", "d": None}) == {"b": 0.0, "c": "nan", "d": None}


def test_few_numbers_are_all_printed():
    logs = {f"nll/{name}": 1.0 for name in "abc"} | {"eval_runtime": 2.0}
    assert shorten_log(logs) == logs


def test_of_many_numbers_the_averages_are_printed():
    single = {f"nll/{number}": 1.0 for number in range(MOST_IN_A_LINE)}
    assert shorten_log(single | {"nll": 1.0, "eval_runtime": 2.0, "eval_steps_per_second": 3.0}) == {"nll": 1.0}


def test_lines_of_a_run_are_short_and_its_files_have_all(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "urm")
    argv = ["train", "attributes", "--model", str(tmp_path / "urm"), "--out", str(tmp_path / "out")]
    argv += ["--data", write(tmp_path / "ratings.jsonl", rated_rows(20)), "--eval_rows_held_out", "6"]
    argv += ["--freeze_backbone", "--num_train_epochs", "1", "--use_cpu", "true", "--report_to", "none"]
    assert main([*argv, "--disable_tqdm", "true"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{'eval_loss'")]
    assert lines and not any("nan" in line or "/help" in line for line in lines)
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    assert any("eval_nll/help" in entry for entry in log)
    # one rating in each place has no spread
    assert "eval_spread_pearson" not in json.loads((tmp_path / "out" / "eval_results.json").read_text())
