"""`urm score`, from flags and files to the files and messages that come out."""

import pytest
import torch

from tests.helpers.commands import ROWS, score, write
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.checkpoints.trained_gate import UNTRAINED_GATE
from urm_hf.cli import main
from urm_hf.data.conversations import read_conversation
from urm_hf.data.seen import OTHER_FORM, mark_conversation, summarize_seen
from urm_hf.data.tables import read_jsonl


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """Folders of two URMs that differ in seed."""
    folder = tmp_path_factory.mktemp("models")
    return [save_with_tokenizer(tiny_urm(seed=seed), folder / f"member-{seed}") for seed in range(2)]


# urm score


def test_scores_are_added_to_the_rows_in_their_order(models, data, tmp_path):
    out = tmp_path / "new" / "scores.jsonl"
    assert score(models[0], "--data", data, "--out", out) == 0
    expected = RewardScorer(tiny_urm(), tiny_tokenizer()).score(ROWS)
    for written, row, expected_score in zip(read_jsonl(out), ROWS, expected, strict=True):
        assert list(written) == [*row, *expected_score]
        assert {key: written[key] for key in row} == row
        assert written["attribute_means"] == close(expected_score.attribute_means)
        for name in ("reward", "reward_std", "attribute_variance", "covariance_norm"):
            assert written[name] == close(expected_score[name]), name


def test_several_models_make_an_ensemble(models, data, tmp_path):
    assert score(*models, "--data", data, "--out", tmp_path / "scores.jsonl") == 0
    expected = RewardScorer(URMEnsemble.from_pretrained(models)).score(ROWS)
    for written, expected_score in zip(read_jsonl(tmp_path / "scores.jsonl"), expected, strict=True):
        assert written["member_rewards"] == close(expected_score.member_rewards)
        for name in ("reward", "reward_std", "reward_gap", "covariance_norm", "epistemic_variance"):
            assert written[name] == close(expected_score[name]), name


def test_a_saved_ensemble_is_scored_as_its_members_are(models, data, tmp_path):
    URMEnsemble.from_pretrained(models).save_pretrained(tmp_path / "ensemble")
    score(*models, "--data", data, "--out", tmp_path / "members.jsonl")
    score(tmp_path / "ensemble", "--data", data, "--out", tmp_path / "saved.jsonl")
    assert list(read_jsonl(tmp_path / "saved.jsonl")) == list(read_jsonl(tmp_path / "members.jsonl"))


def test_only_the_split_that_is_named_is_scored(models, tmp_path):
    data = write(tmp_path / "rows.jsonl", [row | {"split": split} for row, split in zip(ROWS, ["a", "b", "a"])])
    assert score(models[0], "--data", data, "--split", "a", "--out", tmp_path / "scores.jsonl") == 0
    assert [row["id"] for row in read_jsonl(tmp_path / "scores.jsonl")] == [7, 9]


def test_non_ascii_text_is_written_as_it_was_read(models, data, tmp_path):
    score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl")
    assert "Bécause." in (tmp_path / "scores.jsonl").read_text(encoding="utf-8")


def test_the_summary_counts_rows_cuts_and_tokens(models, data, tmp_path, capsys):
    out = tmp_path / "scores.jsonl"
    assert score(models[0], "--data", data, "--out", out, "--max-length", 70, "--truncation", "left") == 0
    lengths = [row["n_tokens"] for row in read_jsonl(out)]
    assert f"3 rows in, 3 scored, 1 truncated, {sum(lengths)} tokens (" in capsys.readouterr().err
    assert [row["truncated"] for row in read_jsonl(out)] == [False, False, True]


def test_the_dtype_of_the_backbone_is_the_one_named(models, data, tmp_path):
    score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", "--dtype", "bfloat16")
    expected = RewardScorer(models[0], dtype=torch.bfloat16).score(ROWS)
    written = [row["reward"] for row in read_jsonl(tmp_path / "scores.jsonl")]
    assert written == close([s.reward for s in expected])
    assert written != close([s.reward for s in RewardScorer(models[0]).score(ROWS)])


def test_a_column_that_a_score_would_overwrite_is_an_error_that_names_it(models, tmp_path, capsys):
    data = write(tmp_path / "rows.jsonl", [row | {"reward": 5} for row in ROWS])
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    assert "reward" in capsys.readouterr().err


def test_a_format_and_columns_to_ignore_are_taken_as_they_are_named(models, tmp_path, capsys):
    rows = [row | {"output": "Another answer.", "context": "A context."} for row in ROWS]
    data = write(tmp_path / "rows.jsonl", rows)
    assert score(models[0], "--data", data, "--out", tmp_path / "read.jsonl") == 2
    assert "context" in capsys.readouterr().err
    ignored = ["--ignore-columns", "context", "output"]
    assert score(models[0], "--data", data, "--out", tmp_path / "ignored.jsonl", *ignored) == 0
    plain = [row["reward"] for row in read_jsonl(tmp_path / "ignored.jsonl")]
    assert plain == close([one.reward for one in RewardScorer(models[0]).score(ROWS)])
    named = ["--format", "preference", "--out", tmp_path / "named.jsonl"]
    assert score(models[0], "--data", write(tmp_path / "plain.jsonl", ROWS), *named) == 2
    assert "preference" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["score", "evaluate", "bestofn", "judge"])
def test_an_unknown_format_is_told_as_such_and_no_fault_of_the_rows(models, data, tmp_path, capsys, command):
    argv = ["--data", data, "--out", str(tmp_path / "out.jsonl"), "--format", "preferense"]
    argv += ["--on-error", "skip"] if command in ("score", "evaluate") else []
    argv += ["--base-url", "http://127.0.0.1:1/v1"] if command == "judge" else []
    assert main([command, models[0], *argv]) == 2
    assert "'preferense' is unknown: did you mean preference" in capsys.readouterr().err


EMPTY_ANSWER = [*ROWS[:2], ROWS[2] | {"response": " "}]


@pytest.mark.parametrize(
    "rows, argv, error",
    [
        (EMPTY_ANSWER, [], "row 2: `response` is empty."),
        (ROWS, ["--max-length", "70"], "row 2: the conversation has 93 tokens, more than max_length=70."),
        (ROWS, ["--revision", "a", "b"], "--revision needs one entry for each of the 1 models."),
        ([], [], "rows.jsonl holds no rows."),
    ],
    ids=["empty answer", "over-long", "revisions", "no rows"],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_written(models, tmp_path, capsys, rows, argv, error):
    data = write(tmp_path / "rows.jsonl", rows)
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", *argv) == 2
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("urm score: error: ")]
    assert len(told) == 1 and error in told[0]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["rows.jsonl"]


def test_an_unknown_dtype_is_an_error_that_lists_the_known_ones(models, data, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl", "--dtype", "float23")
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm score: error: ") and "float23" in error and "bfloat16" in error


@pytest.mark.parametrize("missing", ["data", "model"])
def test_a_missing_file_or_model_is_told_in_one_line(models, data, tmp_path, capsys, missing):
    absent = str(tmp_path / "absent.jsonl")
    model, data = (models[0], absent) if missing == "data" else (absent, data)
    assert score(model, "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("urm score: error: ") and absent in error


def test_a_malformed_line_of_the_data_is_told_by_its_number(models, tmp_path, capsys):
    data = tmp_path / "rows.jsonl"
    data.write_text('{"text": "a"}\n{"text": \n')
    assert score(models[0], "--data", data, "--out", tmp_path / "scores.jsonl") == 2
    assert capsys.readouterr().err.startswith(f"urm score: error: {data}, line 2: not JSON")


def test_the_traceback_is_shown_on_request(models, tmp_path, monkeypatch):
    monkeypatch.setenv("URM_DEBUG", "1")
    with pytest.raises(FileNotFoundError):
        score(models[0], "--data", tmp_path / "absent.jsonl", "--out", tmp_path / "scores.jsonl")


@pytest.mark.parametrize(
    "argv", [["model"], ["model", "--data", "rows.jsonl"], ["--data", "a", "--out", "b"]], ids=str
)
def test_score_without_model_data_or_out_explains_its_usage(capsys, argv):
    with pytest.raises(SystemExit) as stop:
        score(*argv)
    assert stop.value.code == 2
    assert "usage: urm score" in capsys.readouterr().err


@pytest.mark.parametrize("split", [(), ("--split", "a")])
def test_a_limit_scores_the_first_rows_and_is_another_job_than_all(models, tmp_path, capsys, split):
    data = write(tmp_path / "rows.jsonl", [row | {"split": name} for row, name in zip(ROWS, ["b", "a", "a"])])
    out = tmp_path / "scores.jsonl"
    expected = [row["id"] for row in ROWS if not split or row["id"] != 7]
    assert score(models[0], "--data", data, "--limit", 1, *split, "--out", out) == 0
    assert [row["id"] for row in read_jsonl(out)] == expected[:1]
    assert score(models[0], "--data", data, *split, "--out", out) == 2  # not taken for the whole
    assert score(models[0], "--data", data, "--limit", 100, *split, "--out", out, "--overwrite") == 0
    assert [row["id"] for row in read_jsonl(out)] == expected
    assert score(models[0], "--data", data, "--limit", 0, "--out", out) == 2
    assert "--limit must be positive, got 0." in capsys.readouterr().err


def test_plain_text_for_a_model_that_learnt_from_chats_is_told_in_a_line(tmp_path, capsys):
    model = tiny_urm()
    chats = [read_conversation(row) for row in ROWS if "messages" in row or "response" in row]
    model.config.training = {"attribute_stage": summarize_seen(map(mark_conversation, chats)), "gating_stage": {}}
    folder = save_with_tokenizer(model, tmp_path / "urm")
    pair = {"prompt": "a?", "chosen": "b", "rejected": "c"}
    data = write(tmp_path / "pairs.jsonl", [pair, pair | {"prompt": [{"role": "user", "content": "a?"}]}])
    for told in ("", "Already done"):  # by the second command as well, which scores nothing
        assert score(folder, "--data", data, "--out", tmp_path / "scores.jsonl") == 0
        printed = capsys.readouterr().err
        assert told in printed and f"note: 2 conversations: {OTHER_FORM}." in printed
    untold = write(tmp_path / "chats.jsonl", [pair | {"prompt": [{"role": "user", "content": "a?"}]}])
    assert score(folder, "--data", untold, "--out", tmp_path / "others.jsonl") == 0
    assert "note:" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("training", "weights", "told"),
    [
        ({"attribute_stage": {}}, None, True),
        ({"attribute_stage": {}}, [1.0] * 5, False),
        ({"attribute_stage": {}, "gating_stage": {}}, None, False),
        (None, None, False),
    ],
)
def test_a_gate_that_was_not_trained_is_told(training, weights, told, data, tmp_path, capsys):
    model = tiny_urm(reward_weights=weights)
    model.config.training = training
    folder = save_with_tokenizer(model, tmp_path / "urm")
    for _ in range(2):  # the second time nothing is scored
        assert score(folder, "--data", data, "--out", tmp_path / "scores.jsonl") == 0
        assert (f"note: {UNTRAINED_GATE}." in capsys.readouterr().err) == told
