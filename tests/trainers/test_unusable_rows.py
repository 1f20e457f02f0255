"""Rows that training cannot use: all named at once, or left out, counted and written beside the model."""

import json
import logging

import numpy as np
import pytest

from tests.helpers.tiny import tiny_backbone_config, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, gating_trainer, pair_rows, rated_rows
from urm_hf.data.errors import RowError
from urm_hf.data.ratings import find_masks
from urm_hf.data.tables import read_jsonl
from urm_hf.trainers import URMGatingConfig
from urm_hf.trainers.data_arguments import DataArguments
from urm_hf.trainers.splits import load_splits

PAIRS = [{"prompt": f"question {number} ", "chosen": "good", "rejected": "bad"} for number in range(14)]


def with_bad(rows: list[dict], bad: dict[int, dict]) -> list[dict]:
    return [row | bad.get(number, {}) for number, row in enumerate(rows)]


def test_all_rows_are_named_at_once(tmp_path):
    rows = with_bad(PAIRS, {2: {"chosen": " "}, 5: {"chosen": None}, 6: {"chosen": " "}, 9: {"rejected": "good"}})
    with pytest.raises(RowError) as error:
        gating_trainer(tmp_path, rows, cache_features=False)
    told = str(error.value)
    assert error.value.row == 2 and told.startswith("row 2 of the train dataset: ")
    assert "4 rows cannot be used; " in told and "row 9: `chosen` and `rejected` are equal" in told
    assert '`on_error="skip"`' in told and "\n" not in told


def test_of_many_rows_ten_are_named_and_all_counted(tmp_path):
    rows = [row | {"rejected": row["chosen"]} for row in PAIRS]
    with pytest.raises(RowError, match="14 rows cannot be used; the same in rows 1, 2, 3, 4, 5, 6, 7, 8, 9; 4 more"):
        gating_trainer(tmp_path, rows, cache_features=False)


def test_unusable_pairs_are_left_out_and_written_with_the_reason(tmp_path, caplog):
    rows = with_bad(PAIRS, {2: {"chosen": " "}, 9: {"rejected": "good"}})
    with caplog.at_level(logging.WARNING):
        trainer = gating_trainer(tmp_path, rows, rows[:4], on_error="skip")
    assert (len(trainer.train_dataset), len(trainer.eval_dataset)) == (12, 3)
    assert "Left out 2 of 14 rows of the train dataset that cannot be used: 2, 9." in caplog.text
    skipped = list(read_jsonl(tmp_path / "train.skipped.jsonl"))
    assert [row["row"] for row in skipped] == [2, 9]
    assert skipped[1]["data"] == rows[9] and "are equal once encoded" in skipped[1]["reason"]
    assert [row["row"] for row in read_jsonl(tmp_path / "eval.skipped.jsonl")] == [2]
    clean = gating_trainer(tmp_path / "clean", [row for n, row in enumerate(rows) if n not in (2, 9)])
    assert list(trainer.train_dataset["chosen_feature"]) == list(clean.train_dataset["chosen_feature"])


def test_a_pair_of_a_file_is_told_by_its_row_there(tmp_path):
    lines = ["{damaged", *(json.dumps(row) for row in with_bad(PAIRS, {2: {"chosen": " "}, 9: {"rejected": "good"}}))]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    rows, _ = load_splits(DataArguments(str(tmp_path / "pairs.jsonl")), seed=0, skipped_to=str(tmp_path))
    rows = rows.shuffle(seed=3)
    with pytest.raises(RowError, match=r"^row 3 of the train dataset: .*2 rows cannot be used; row 10: ") as error:
        gating_trainer(tmp_path, rows, cache_features=False)
    assert error.value.row == 3
    gating_trainer(tmp_path, rows, cache_features=False, on_error="skip")
    skipped = sorted(read_jsonl(tmp_path / "train.skipped.jsonl"), key=lambda line: line["row"])
    assert [line["row"] for line in skipped] == [3, 10]
    assert skipped[1]["data"] == PAIRS[9] | {"rejected": "good"}


def test_sides_that_become_equal_when_they_are_cut_are_refused(tmp_path):
    rows = [{"chosen": "the same beginning, good", "rejected": "the same beginning, bad"}]
    with pytest.raises(RowError, match="equal once encoded .8 tokens."):
        gating_trainer(tmp_path, rows, max_length=8, truncation="right")
    gating_trainer(tmp_path, rows, max_length=8, truncation="left", cache_features=False)


def test_columns_that_are_not_there_are_told_as_such(tmp_path):
    with pytest.raises(ValueError, match="has no column `chosen` and `rejected`; it has prompt, response"):
        gating_trainer(tmp_path, [{"prompt": "a", "response": "b"}])


def test_label_statistics_are_of_the_rows_that_can_be_used(tmp_path):
    rows = with_bad(rated_rows(8), {3: {"help": float("nan")}})
    trainer = attribute_trainer(tmp_path, rows, on_error="skip")
    usable = [row["help"] for number, row in enumerate(rows) if number != 3]
    assert len(trainer.train_dataset) == 7
    assert trainer.model.config.label_means[0] == pytest.approx(np.mean(usable))


def test_a_dataset_without_a_usable_row_is_an_error_also_with_skip(tmp_path):
    with pytest.raises(RowError, match="row 0 of the train dataset"):
        attribute_trainer(tmp_path, rated_rows(3, help="good"), on_error="skip")


@pytest.mark.parametrize("form", ["table", "generator"])
def test_a_stream_leaves_them_out_too(tmp_path, form):
    from datasets import Dataset, IterableDataset

    rows = Dataset.from_list(with_bad(PAIRS, {2: {"chosen": " "}}))
    stream = rows.to_iterable_dataset() if form == "table" else IterableDataset.from_generator(lambda: iter(rows))
    trainer = gating_trainer(tmp_path, stream, cache_features=False, on_error="skip", max_steps=1)
    assert len(list(trainer.train_dataset)) == 13


def test_an_unknown_policy_is_refused():
    with pytest.raises(ValueError, match="`on_error` must be one of raise, skip, got 'ignore'"):
        URMGatingConfig("out", on_error="ignore")


# Values that say that there is no rating


@pytest.mark.parametrize(
    "values, masked",
    [
        ([3, 0, -1, 4], [2]),
        ([3, -100, -1, 4], [1, 2]),
        ([3, 99, 5, 999], [1, 3]),
        ([1, -1, -0.5, 1], []),  # a scale that goes below zero
        ([90, 99, 95, 85], []),  # a scale of a hundred
        ([3, 2, 1, 0], []),
    ],
)
def test_masks_are_told_from_ratings(values, masked):
    ratings = np.array(values, dtype=np.float32).reshape(-1, 1, 1)
    assert sorted(find_masks(ratings, ["help"])) == masked
    assert not find_masks(ratings, ["help"], {"help": [-100, 999]})


def test_masks_are_refused_unless_the_scale_is_declared(tmp_path):
    rows = with_bad(rated_rows(6), {4: {"depth": -1}})
    with pytest.raises(
        RowError, match="row 4 of the train dataset: column `depth` has the rating -1, .*`attribute_sc"
    ):
        attribute_trainer(tmp_path, rows)
    assert len(attribute_trainer(tmp_path, rows, on_error="skip").train_dataset) == 5
    assert len(attribute_trainer(tmp_path, rows, attribute_scales={"depth": [-1, 4]}).train_dataset) == 6


# Lengths


def test_the_default_limit_is_lowered_to_the_positions_of_the_model(tmp_path):
    trainer = gating_trainer(tmp_path, pair_rows(), cache_features=False)
    assert trainer.args.max_length == trainer.model.config.max_position_embeddings == 512
    longer = tiny_urm(backbone=tiny_backbone_config(max_position_embeddings=8192), attributes=ATTRIBUTES)
    assert gating_trainer(tmp_path, pair_rows(), model=longer, cache_features=False).args.max_length == 4096


def test_a_limit_beyond_the_positions_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`max_length` is 600, but the model has positions for 512 tokens"):
        gating_trainer(tmp_path, pair_rows(), max_length=600)
