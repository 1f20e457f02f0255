"""What a stage leaves in the model's config of the conversations that it was trained on."""

import pytest

from tests.helpers.tiny import tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf.data.seen import describe_seen

PLAIN = [{"prompt": f"Question {n}?", "chosen": f"Answer {n}.", "rejected": "No."} for n in range(8)]
CHATS = [{"prompt": f"Question {n}?", "response": f"Answer {n}.", "help": n % 5, "depth": n % 3} for n in range(8)]


def test_the_attribute_stage_records_rows_that_it_used(tmp_path):
    rows = [*rated_rows(6), {"text": None, "help": 1, "depth": 2}]
    trainer = attribute_trainer(tmp_path, rows, rated_rows(4, seed=9), on_error="skip")
    record = trainer.model.config.training["attribute_stage"]
    assert record["conversations"] == 6 and record["read_as"] == "exact" and record["rows"] == 7
    assert "(6 of 6 for the attribute stage)" in describe_seen(trainer.model.config.training, rows[:6])
    assert describe_seen(trainer.model.config.training, rated_rows(4, seed=9)) is None  # what it is evaluated on


def test_the_gating_stage_records_both_sides_beside_the_stage_before(tmp_path):
    model = attribute_trainer(tmp_path / "a", CHATS).model
    trainer = gating_trainer(tmp_path / "g", pair_rows(5), model=model)
    training = trainer.model.config.training
    assert training["attribute_stage"]["conversations"] == 8 and training["gating_stage"]["conversations"] == 10
    sides = [row[side] for row in pair_rows(5) for side in ("chosen", "rejected")]
    assert "(10 of 10 for the gating stage)" in describe_seen(training, sides)


@pytest.mark.parametrize("checkpoint", [False, True])
def test_the_record_is_saved_with_the_model(tmp_path, checkpoint):
    trainer = attribute_trainer(
        tmp_path, CHATS, max_steps=1, save_strategy="steps" if checkpoint else "no", save_steps=1
    )
    trainer.train()
    trainer.save_model()
    saved = type(trainer.model.config).from_pretrained(tmp_path / "checkpoint-1" if checkpoint else tmp_path)
    assert saved.training["attribute_stage"]["conversations"] == 8


def test_pairs_in_plain_text_after_ratings_of_chats_are_told_in_a_line(tmp_path, caplog):
    model = attribute_trainer(tmp_path / "a", CHATS).model
    caplog.clear()
    gating_trainer(tmp_path / "g", PLAIN, model=model)
    assert [
        message for message in caplog.messages if "plain text, as in TRL" in message and "train dataset" in message
    ]


@pytest.mark.parametrize("rows", [pair_rows(4), PLAIN], ids=["chats after chats", "text without a record"])
def test_of_one_form_nothing_is_told(tmp_path, caplog, rows):
    model = tiny_urm(attributes=ATTRIBUTES) if rows is PLAIN else attribute_trainer(tmp_path / "a", CHATS).model
    gating_trainer(tmp_path / "g", rows, model=model)
    assert not any("plain text" in message for message in caplog.messages)
