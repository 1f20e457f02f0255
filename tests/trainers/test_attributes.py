"""Which columns are ratings where nobody has named them."""

import numpy as np
import pytest

from urm_hf.modeling import HELPSTEER2_ATTRIBUTES
from urm_hf.trainers.attributes import check_all_rated, infer_attributes

ROW = {"prompt": "A?", "response": "B.", "prompt_id": 3, "weight": 0.5, "note": "x", "_urm_row": 4}


def test_columns_of_numbers_are_taken_in_their_order():
    rows = [ROW | {"tone": None, "clarity": 3}, ROW | {"tone": [1, 2], "clarity": 2}]
    assert infer_attributes(rows, HELPSTEER2_ATTRIBUTES).names == ["clarity", "tone"]


def test_those_of_helpsteer2_are_taken_where_all_are_there():
    row = ROW | {"seconds": 9} | dict.fromkeys(reversed(HELPSTEER2_ATTRIBUTES), 1)
    assert infer_attributes([row], HELPSTEER2_ATTRIBUTES).names == HELPSTEER2_ATTRIBUTES


def test_of_rows_that_share_a_name_with_helpsteer2_the_columns_that_are_there_are_taken():
    assert infer_attributes([ROW | {"helpfulness": 1, "clarity": 2}], HELPSTEER2_ATTRIBUTES).names == [
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
    assert infer_attributes(rows, HELPSTEER2_ATTRIBUTES).names == ["tone", "clarity"]
    found = infer_attributes([CELLS | {"score": 1}], HELPSTEER2_ATTRIBUTES)  # where others are numbers
    assert found.names == ["score"]


def test_ratings_that_are_text_beside_others_that_are_numbers_are_told():
    rows = [ROW | {"clarity": 3, "tone": cell, "year": "one of 1999"} for cell in ("4", "5", "3/5", "2")]
    found = infer_attributes(rows, HELPSTEER2_ATTRIBUTES)
    assert found.names == ["clarity"]
    (told,) = found.unread
    assert "`tone` holds numbers in 3 of 4 rows, but '3/5' in row 2" in told
    (told,) = infer_attributes([ROW | {"clarity": 3, "tone": "4"}], HELPSTEER2_ATTRIBUTES).unread
    assert "`tone` holds numbers that are written as text" in told and "--attributes tone" in told


def test_a_cell_that_keeps_a_column_of_a_csv_file_from_being_ratings_is_named():
    rows = [{"prompt": "A?", "response": "B.", "tone": cell} for cell in ("4", "4,5", "3")]
    with pytest.raises(ValueError, match="`tone` holds numbers in 2 of 3 rows, but '4,5' in row 1.*`urm data FILE`"):
        infer_attributes(rows, HELPSTEER2_ATTRIBUTES)


@pytest.mark.parametrize("index", ["", "Unnamed: 0"])
def test_the_index_that_pandas_writes_is_no_rating(index):
    found = infer_attributes([{index: "0", **CELLS}, {index: "1", **CELLS}], HELPSTEER2_ATTRIBUTES)
    assert found.names == ["note", "tone", "clarity"]
    assert infer_attributes([{index: 0, **ROW, "tone": 3}], HELPSTEER2_ATTRIBUTES).names == ["tone"]


def test_an_attribute_that_no_row_rates_is_told_with_the_columns_that_are_there():
    ratings = np.array([[[1.0], [np.nan]], [[2.0], [np.nan]]])
    rows = [{"text": "a", "help": 1, "tone": 2}]
    with pytest.raises(ValueError, match="attribute 'depth'.*numbers in help, tone.*`--attributes help tone`"):
        check_all_rated(ratings, ["help", "depth"], rows)
    check_all_rated(ratings[:, :1], ["help"], rows)
