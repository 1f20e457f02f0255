"""What `urm posterior` and `urm calibrate` say of their rows, and leave of them in the model's config."""

import json

import pytest

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, rated_rows
from urm_hf import URMForRewardModeling
from urm_hf.cli import main


@pytest.fixture
def model(tmp_path, monkeypatch) -> str:
    """A URM with a posterior of forty rows."""
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    plain = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "plain")
    for name in ("LICENSE", "NOTICE.txt", "README.md"):
        (tmp_path / "plain" / name).write_text(f"{name} of plain")
    data = write(tmp_path / "rated.jsonl", rated_rows(40))
    assert main(["posterior", plain, "--data", data, "--out", str(tmp_path / "fitted")]) == 0
    return str(tmp_path / "fitted")


def calibrate(model, data, out, method) -> int:
    return main(["calibrate", model, "--data", data, "--out", str(out), "--method", method])


def read_training(folder) -> dict:
    return json.loads((folder / "config.json").read_text())["training"]


def test_a_posterior_and_intervals_record_their_rows(model, tmp_path):
    assert read_training(tmp_path / "fitted")["posterior"]["conversations"] == 40
    new = write(tmp_path / "new.jsonl", rated_rows(50, seed=9))
    assert calibrate(model, new, tmp_path / "out", "split") == 0
    training = read_training(tmp_path / "out")
    assert {name: record["conversations"] for name, record in training.items()} == {"posterior": 40, "intervals": 50}


def test_licences_stay_with_the_model_and_its_card_does_not(model, tmp_path):
    """The card tells of measurements that are not of this model, as after `urm merge`."""
    assert (tmp_path / "fitted" / "NOTICE.txt").read_text() == "NOTICE.txt of plain"
    assert (tmp_path / "fitted" / "LICENSE").is_file() and not (tmp_path / "fitted" / "README.md").exists()


def test_rows_that_should_be_new_and_are_not_are_told(model, tmp_path, capsys):
    data = write(tmp_path / "some.jsonl", rated_rows(40)[:30] + rated_rows(20, seed=9))
    assert calibrate(model, data, tmp_path / "split", "split") == 0
    assert f"note: {model} was trained on these conversations (30 of 50 for its posterior)" in capsys.readouterr().err
    assert calibrate(model, data, tmp_path / "cross", "cross") == 0  # which reads the rows of the training
    assert "note:" not in capsys.readouterr().err
    new = write(tmp_path / "new.jsonl", rated_rows(40, seed=9))
    assert calibrate(model, new, tmp_path / "of-new", "cross") == 0
    told = capsys.readouterr().err
    assert f"note: the posterior of {model} was fitted on none of these rows" in told and "`--method split`" in told


def test_rows_that_are_new_are_told_nothing_of(model, tmp_path, capsys):
    data = write(tmp_path / "new.jsonl", rated_rows(50, seed=9))
    assert calibrate(model, data, tmp_path / "once", "split") == 0
    # again on the rows of the intervals that are replaced
    assert calibrate(str(tmp_path / "once"), data, tmp_path / "twice", "split") == 0
    assert "note:" not in capsys.readouterr().err


def test_a_row_that_cannot_be_read_is_not_said_to_be_of_a_training(model, tmp_path, capsys):
    data = write(tmp_path / "bad.jsonl", [{"prompt": "a", "response": "b", "help": "good", "depth": 1}])
    assert main(["posterior", model, "--data", data, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("urm posterior: error: row 0 of the rated dataset: column `help` has 'good'")


def of_prompts(count: int, prompts: int) -> list[dict]:
    return [
        {"prompt": f"{number % prompts}?", "response": row["text"], "help": [row["help"]] * 3, "depth": row["depth"]}
        for number, row in enumerate(rated_rows(count, seed=9))
    ]


def test_intervals_take_enough_prompts(model, tmp_path, capsys):
    """24 ratings would do, were they independent."""
    few = write(tmp_path / "few.jsonl", of_prompts(24, prompts=8))
    assert calibrate(model, few, tmp_path / "out", "split") == 2
    told = capsys.readouterr().err
    assert "'help': its ratings are of 8 prompts, and intervals of 0.9 take 9 that are independent" in told
    assert not (tmp_path / "out").exists()
    one = write(tmp_path / "one.jsonl", of_prompts(8, prompts=1))
    assert calibrate(model, one, tmp_path / "out", "split") == 2
    assert "its ratings are of 8 rows, all of one prompt, and intervals of 0.9 take 9" in capsys.readouterr().err
    enough = write(tmp_path / "enough.jsonl", of_prompts(40, prompts=1))
    assert calibrate(model, enough, tmp_path / "out", "split") == 0
    assert "note: all 40 rows are of one prompt: the intervals are for other answers" in capsys.readouterr().err


def test_the_table_says_what_its_numbers_are(model, tmp_path, capsys):
    data = write(tmp_path / "new.jsonl", rated_rows(50, seed=9))
    capsys.readouterr()
    assert calibrate(model, data, tmp_path / "out", "split") == 0
    told = capsys.readouterr().out
    assert "| | 0.5 | 0.68 | 0.8 | 0.9 | 0.95 |" in told
    assert "| a Gaussian's | 0.67 | 0.99 | 1.28 | 1.64 | 1.96 |" in told
    assert "In brackets: the share of these ratings that an interval with the Gaussian's" in told


def test_training_forgets_the_rows_of_a_former_posterior(model, tmp_path):
    """They are not those of the posterior that it has then, or it has none."""
    for name, options in (("frozen", {"freeze_backbone": True}), ("full", {})):
        loaded = URMForRewardModeling.from_pretrained(model)
        trainer = attribute_trainer(tmp_path / name, rated_rows(40, seed=9), model=loaded, **options)
        assert list(trainer.model.config.training) == ["attribute_stage"]
        assert trainer.model.score.has_posterior == (name == "frozen")
