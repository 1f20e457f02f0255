"""The data of the attribute stage: rows in every form, long rows, rows that are refused."""

import logging

import numpy as np
import pytest
from datasets import IterableDataset

from tests.helpers.attribute_runs import loss_of_all
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, dataset_of, logged, rated_rows
from urm_hf.data.ratings import read_ratings

# Rows that are refused


USER, ANSWER = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}
GOOD = {"messages": [USER, ANSWER], "help": 1.0, "depth": 2.0}
BAD = {
    "outside its scale": ({"help": 5.0}, r"column `help` has the rating 5, outside its scale \[0, 4\]"),
    "no rating": ({"help": None, "depth": None}, "no rating at all: help, depth are all empty"),
    "NaN": ({"depth": float("nan")}, "column `depth` has nan. Use null"),
    "infinite": ({"depth": float("inf")}, "column `depth` has inf"),
    "no answer": ({"messages": [USER]}, "the last message has the role 'user'"),
    "empty answer": ({"messages": [USER, ANSWER | {"content": " "}]}, r"message 1 \(assistant\) is empty"),
    "late system turn": (
        {"messages": [USER, {"role": "system", "content": "x"}, ANSWER]},
        "message 1 is a system turn.*roles out of order",
    ),
    "unknown role": ({"messages": [USER | {"role": "human"}, ANSWER]}, "message 0 has the role 'human'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_refused_with_its_number_and_reason(tmp_path, case):
    bad, reason = BAD[case]
    with pytest.raises(ValueError, match=f"row 2 of the train dataset: .*{reason}"):
        attribute_trainer(tmp_path, [GOOD, GOOD, GOOD | bad], attribute_scales={"help": [0, 4]})


def test_a_bad_row_for_evaluation_is_refused_too(tmp_path):
    with pytest.raises(ValueError, match="row 1 of the eval dataset: column `depth` has nan"):
        attribute_trainer(tmp_path, [GOOD], [GOOD, GOOD | {"depth": float("nan")}])


def test_an_empty_response_is_refused(tmp_path):
    rows = [{"prompt": "hi", "response": response, "help": 1, "depth": 2} for response in ("hello", "")]
    with pytest.raises(ValueError, match="row 1 of the train dataset: `response` is empty"):
        attribute_trainer(tmp_path, rows)


def test_a_rating_that_is_text_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train dataset: column `help` has 'good', which is not a"):
        attribute_trainer(tmp_path, rated_rows(3, help="good"))


def test_rating_columns_that_are_not_there_are_named(tmp_path):
    rows = [{"text": "hello", "tone": 1.0}]
    with pytest.raises(ValueError, match=r"none of the rating columns \['help', 'depth'\] is there.*'tone'"):
        attribute_trainer(tmp_path, rows)


def test_an_attribute_without_any_rating_is_named(tmp_path):
    with pytest.raises(ValueError, match="attribute 'depth' has no rating in any row"):
        attribute_trainer(tmp_path, rated_rows(3, depth=None))


def test_other_attributes_than_the_model_s_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`attributes` asks for \['tone'\], but the model predicts"):
        attribute_trainer(tmp_path, rated_rows(), attributes=["tone"])


def test_the_censored_likelihood_needs_a_scale_for_every_attribute(tmp_path):
    with pytest.raises(ValueError, match="needs `attribute_scales` for every attribute"):
        attribute_trainer(tmp_path, rated_rows(), loss_type="censored_mle", attribute_scales={"help": [0, 4, 1]})


def test_a_scale_of_an_unknown_attribute_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`attribute_scales` names 'hepl'"):
        attribute_trainer(tmp_path, rated_rows(), attribute_scales={"hepl": [0, 4, 1]})


# Long rows


LONG = [{"text": "abcdefghij", "help": 1, "depth": 2}, {"text": "abc", "help": 2, "depth": 3}]


def texts_of(trainer) -> list[str]:
    return tiny_tokenizer().batch_decode(list(trainer.train_dataset["input_ids"]))


def test_a_row_over_the_limit_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train dataset: the conversation has 10 tokens.*max_length=6"):
        attribute_trainer(tmp_path, LONG, max_length=6)


def test_a_row_at_the_limit_is_kept_whole(tmp_path):
    assert texts_of(attribute_trainer(tmp_path, LONG, max_length=10)) == ["abcdefghij", "abc"]


@pytest.mark.parametrize(
    "truncation, kept, what",
    [
        ("left", ["efghij", "abc"], "truncated on the left"),
        ("right", ["abcdef", "abc"], "truncated on the right"),
        ("drop", ["abc"], "dropped"),
    ],
)
def test_what_is_cut_is_as_asked_and_counted_in_the_log(tmp_path, caplog, truncation, kept, what):
    with caplog.at_level(logging.WARNING):
        trainer = attribute_trainer(tmp_path, LONG, max_length=6, truncation=truncation)
    assert texts_of(trainer) == kept
    assert f"1 of 2 rows of the train dataset are over 6 tokens: {what}." in caplog.text


def test_nothing_cut_is_nothing_logged(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        attribute_trainer(tmp_path, LONG, max_length=10, truncation="drop")
    assert "rows of the train dataset" not in caplog.text


def test_dropping_every_row_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="all rows of the train dataset are over max_length=2 and were dropped"):
        attribute_trainer(tmp_path, LONG, max_length=2, truncation="drop")


def test_each_rating_is_read_once(tmp_path, monkeypatch):
    seen = []

    def watched(row, *settings):
        seen.append(row["text"])
        return read_ratings(row, *settings)

    monkeypatch.setattr("urm_hf.trainers.rated_rows.read_ratings", watched)
    rows, held_out = rated_rows(5), rated_rows(3, seed=1)
    trainer = attribute_trainer(tmp_path, rows, held_out)
    assert len(trainer.train_dataset) == 5 and len(trainer.eval_dataset) == 3
    assert len(seen) == 8


def test_label_statistics_are_of_all_rated_rows_also_of_those_that_are_dropped(tmp_path):
    rows = [*LONG, {"text": "abcd", "help": 4, "depth": 1}]
    config = attribute_trainer(tmp_path, rows, max_length=6, truncation="drop").model.config
    assert config.label_means == pytest.approx([7 / 3, 2.0])


# Forms of data


def test_rows_of_token_ids_train_like_their_texts(tmp_path):
    rows = rated_rows()
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    tokenised = [{"input_ids": ids[i], **{name: row[name] for name in ATTRIBUTES}} for i, row in enumerate(rows)]
    losses = [loss_of_all(attribute_trainer(tmp_path, data)).item() for data in (rows, tokenised)]
    assert losses[0] == losses[1]


def test_helpsteer_rows_are_read_as_they_come(tmp_path):
    prompt = "first<extra_id_1>Assistant\nanswer\n<extra_id_1>User\nsecond"
    row = {"prompt": prompt, "response": "last", "help": 1, "depth": 2}
    (text,) = texts_of(attribute_trainer(tmp_path, [row]))
    turns = [("user", "first"), ("assistant", "answer"), ("user", "second"), ("assistant", "last")]
    assert text == "<|bos|>" + "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)


def streaming(rows: list[dict], form: str) -> IterableDataset:
    if form == "table":
        return dataset_of(rows).to_iterable_dataset()
    return IterableDataset.from_generator(lambda: iter(dataset_of(rows)))


FORMS = ["table", "generator"]


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_cannot_be_measured_in_advance(tmp_path, form):
    with pytest.raises(ValueError, match="streaming dataset cannot be measured.*`standardize_labels=False`"):
        attribute_trainer(tmp_path, streaming(rated_rows(), form), max_steps=1)


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_trains_like_the_same_rows_in_memory(tmp_path, form):
    rows, losses = rated_rows(8, depth=[[1, 2], 3, 0, [4, 4, 1], 2, 2, 1, 0]), []
    for data in (rows, streaming(rows, form)):
        model = tiny_urm(attributes=ATTRIBUTES)
        kwargs = {"max_steps": 2, "per_device_train_batch_size": 4}
        trainer = attribute_trainer(tmp_path, data, model=model, standardize_labels=False, **kwargs)
        trainer._get_train_sampler = lambda *args: None  # in order
        trainer._ratings_per_row = np.ones(2)  # a stream is not measured: each rating weighs 1 there
        trainer.train()
        losses.append(logged(trainer, "loss"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_streaming_dataset_cannot_be_cached(tmp_path, form):
    with pytest.raises(ValueError, match="streaming"):
        attribute_trainer(
            tmp_path, streaming(rated_rows(), form), standardize_labels=False, freeze_backbone=True, max_steps=1
        )
