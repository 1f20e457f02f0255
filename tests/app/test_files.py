"""Rows of a file on the page: in the boxes, and scored as a batch."""

import csv
import json
from pathlib import Path

import pytest

from tests.helpers.score_runs import write
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer
from urm_hf.app.batch import build_table, score_file, write_files
from urm_hf.app.familiar import build_familiar_set
from urm_hf.app.inputs import build_row, fill_boxes

TURNS = [
    {"role": "user", "content": "a?"},
    {"role": "assistant", "content": "b"},
    {"role": "user", "content": "c?"},
]


@pytest.fixture(scope="module")
def scorer() -> RewardScorer:
    return RewardScorer(tiny_urm(), tiny_tokenizer())


def test_rows_of_a_file_fill_the_boxes_and_read_as_they_were(tmp_path):
    rows = [
        {"prompt": "Name a river.", "chosen": "The Po.", "rejected": "Rome."},
        {"prompt": TURNS, "response": "d"},
        {"messages": [*TURNS, {"role": "assistant", "content": "d"}]},
    ]
    write(tmp_path / "rows.jsonl", rows)
    path = str(tmp_path / "rows.jsonl")
    assert fill_boxes(path, 0) == ("Name a river.", "The Po.", "Rome.", True)
    for number in (1, 2):
        prompt, answer, other, is_plain = fill_boxes(path, number)
        assert build_row(prompt, answer, "A") == {"prompt": TURNS, "response": "d"}
        assert other == "" and not is_plain
    with pytest.raises(ValueError, match="no row 3"):
        fill_boxes(path, 3)


@pytest.mark.parametrize("boxes, error", [((" ", "a", "A"), "Write a prompt"), (("a", "", "B"), "Write answer B")])
def test_an_empty_box_is_told(boxes, error):
    with pytest.raises(ValueError, match=error):
        build_row(*boxes)


def test_a_batch_has_the_scorer_s_numbers_and_an_error_in_the_place_of_a_bad_row(scorer, tmp_path):
    rows = [
        {"prompt": [{"role": "user", "content": "a?"}], "chosen": "b", "rejected": "c", "id": 7},
        {"prompt": "a?", "response": None},
        {"prompt": "a?", "response": "e" * 600},
        {"prompt": "a?", "response": "d"},
    ]
    write(tmp_path / "rows.jsonl", rows)
    familiar = build_familiar_set(scorer, [{"prompt": "a?", "response": "f" * n} for n in range(1, 30)])
    found = score_file(scorer, str(tmp_path / "rows.jsonl"), 4, familiar)
    expected = scorer.score([build_row("a?", answer, "") for answer in "bcd"])
    assert [row.score["reward"] for row in found if row.score] == close([score.reward for score in expected])
    assert [row.number for row in found] == [0, 0, 1, 2, 3]
    assert [row.number for row in found if row.error] == [1, 2] and "624 tokens" in found[3].error
    assert all(0 <= row.unfamiliar <= 1 for row in found if row.score)
    table = build_table(found)
    assert table[0][:3] == [0, "chosen", "b"] and float(table[0][4]) < float(table[0][3]) < float(table[0][5])
    assert len(score_file(scorer, str(tmp_path / "rows.jsonl"), 1)) == 2
    tabular, lines = map(Path, write_files(found))
    written = [json.loads(line) for line in lines.read_text().splitlines()]
    assert written[0]["id"] == 7 and written[1]["reward"] == close(expected[1].reward) and "error" in written[2]
    with open(tabular, newline="") as file:
        flat = list(csv.DictReader(file))
    name = scorer.attributes[0]
    assert float(flat[4][f"mean of {name}"]) == close(expected[2].attribute_means[name])


def test_familiar_conversations_must_be_enough(scorer):
    with pytest.raises(ValueError, match="at least 20"):
        build_familiar_set(scorer, [{"prompt": "a?", "response": "b"}])
