"""Which columns are ratings where nobody has named them."""

import pytest

from urm_hf.modeling import HELPSTEER2_ATTRIBUTES
from urm_hf.trainers.attributes import infer_attributes

ROW = {"prompt": "A?", "response": "B.", "prompt_id": 3, "weight": 0.5, "note": "x", "_urm_row": 4}


def test_columns_of_numbers_are_taken_in_their_order():
    rows = [ROW | {"tone": None, "clarity": 3}, ROW | {"tone": [1, 2], "clarity": 2}]
    assert infer_attributes(rows, HELPSTEER2_ATTRIBUTES) == ["clarity", "tone"]


def test_those_of_helpsteer2_are_taken_where_all_are_there():
    row = ROW | {"seconds": 9} | dict.fromkeys(reversed(HELPSTEER2_ATTRIBUTES), 1)
    assert infer_attributes([row], HELPSTEER2_ATTRIBUTES) == HELPSTEER2_ATTRIBUTES


def test_of_rows_that_share_a_name_with_helpsteer2_the_columns_that_are_there_are_taken():
    assert infer_attributes([ROW | {"helpfulness": 1, "clarity": 2}], HELPSTEER2_ATTRIBUTES) == [
        "helpfulness",
        "clarity",
    ]


def test_rows_without_numbers_are_an_error_with_what_to_do():
    with pytest.raises(ValueError, match="no column holds numbers.*`urm data FILE`.*--attributes"):
        infer_attributes([ROW], HELPSTEER2_ATTRIBUTES)
