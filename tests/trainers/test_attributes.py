"""Which columns are ratings where nobody has named them."""

import numpy as np
import pytest

from urm_hf.modeling import HELPSTEER2_ATTRIBUTES
from urm_hf.trainers.attributes import check_all_rated, infer_attributes

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
    with pytest.raises(
        ValueError, match="no column holds numbers.*there are prompt, response.*`urm data FILE`.*--attributes"
    ):
        infer_attributes([ROW], HELPSTEER2_ATTRIBUTES)


CELLS = {"prompt": "A?", "response": "4", "id": "00501", "note": "5", "tone": "3", "clarity": "[1, 2]"}


def test_numbers_of_a_csv_file_are_text_and_are_found_all_the_same():
    rows = [CELLS, CELLS | {"note": "fine", "tone": "", "clarity": None}]
    assert infer_attributes(rows, HELPSTEER2_ATTRIBUTES) == ["tone", "clarity"]
    assert infer_attributes([CELLS | {"score": 1}], HELPSTEER2_ATTRIBUTES) == ["score"]  # where others are numbers


def test_an_attribute_that_no_row_rates_is_told_with_the_columns_that_are_there():
    ratings = np.array([[[1.0], [np.nan]], [[2.0], [np.nan]]])
    rows = [{"text": "a", "help": 1, "tone": 2}]
    with pytest.raises(ValueError, match="attribute 'depth'.*numbers in help, tone.*`--attributes help tone`"):
        check_all_rated(ratings, ["help", "depth"], rows)
    check_all_rated(ratings[:, :1], ["help"], rows)
