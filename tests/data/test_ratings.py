"""Ratings of a row as numbers, what is refused, and the statistics that the head's units come from."""

import numpy as np
import pytest

from urm_hf.data.ratings import is_rated, rating_statistics, ratings_array, read_ratings

NAMES = ["clarity", "depth"]
NAN = float("nan")


@pytest.mark.parametrize(
    "value, read",
    [
        (3, [3.0]),
        (2.5, [2.5]),
        (0, [0.0]),
        (np.int64(3), [3.0]),
        (np.float32(0.5), [0.5]),
        ([1, 2, 2.5], [1.0, 2.0, 2.5]),
        ((1, 2), [1.0, 2.0]),
        (np.array([1.0, 4.0]), [1.0, 4.0]),
        ([1, None, 3], [1.0, 3.0]),
    ],
    ids=repr,
)
def test_a_rating_column_holds_a_number_or_numbers(value, read):
    ratings = read_ratings({"clarity": value, "depth": 1}, NAMES)
    assert ratings == [read, [1.0]]
    assert all(type(number) is float for number in ratings[0])


@pytest.mark.parametrize("row", [{"clarity": 2, "depth": None}, {"clarity": 2, "depth": []}, {"clarity": 2}], ids=str)
def test_an_attribute_that_was_not_rated_has_no_rating(row):
    assert read_ratings(row, NAMES) == [[2.0], []]


def test_ratings_come_in_the_order_of_the_attributes():
    assert read_ratings({"depth": 1, "other": 9, "clarity": 2}, NAMES) == [[2.0], [1.0]]


def test_rating_columns_may_sit_in_a_column_called_ratings():
    assert read_ratings({"ratings": {"clarity": [1, 2], "depth": 3}, "clarity": 4}, NAMES) == [[1.0, 2.0], [3.0]]


@pytest.mark.parametrize("value", [True, np.bool_(False), "3", "", {"score": 3}], ids=repr)
def test_what_is_not_a_number_is_an_error_that_names_column_and_value(value):
    with pytest.raises(ValueError, match="column `depth` has .*not a number") as error:
        read_ratings({"clarity": 1, "depth": [2, value]}, NAMES)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value, shown", [(NAN, "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_rating_that_is_not_finite_is_an_error_that_names_column_and_value(value, shown):
    with pytest.raises(ValueError, match=f"column `depth` has {shown}. Use null"):
        read_ratings({"clarity": 1, "depth": value}, NAMES)


@pytest.mark.parametrize("value, shown", [(4.5, r"4\.5"), ([0, -1], "-1")])
def test_a_rating_outside_its_scale_is_an_error_that_names_column_value_and_scale(value, shown):
    with pytest.raises(ValueError, match=rf"column `depth` has the rating {shown}, outside its scale \[0, 4\]"):
        read_ratings({"clarity": 100, "depth": value}, NAMES, {"depth": [0, 4, 1]})


def test_the_ends_of_a_scale_are_inside_and_attributes_without_one_are_free():
    scales = {"depth": [0.0, 4.0]}
    assert read_ratings({"clarity": 100, "depth": [0, 4]}, NAMES, scales) == [[100.0], [0.0, 4.0]]


@pytest.mark.parametrize(
    "row", [{"clarity": None, "depth": None}, {"clarity": [], "depth": [None]}, {"clarity": None}], ids=str
)
def test_a_row_without_any_rating_is_an_error_that_names_the_columns(row):
    with pytest.raises(ValueError, match="no rating at all: clarity, depth are all empty.*`skip_unrated=True`"):
        read_ratings(row, NAMES)


def test_rating_columns_that_are_all_absent_are_an_error_that_names_those_found():
    with pytest.raises(
        ValueError, match=r"none of the rating columns \['clarity', 'depth'\].*\['prompt', 'quality'\]"
    ):
        read_ratings({"quality": 3, "prompt": "a"}, NAMES)


def test_a_rating_that_float32_cannot_hold_is_an_error():
    with pytest.raises(ValueError, match="column `depth` has 1e.39, more than float32 holds"):
        read_ratings({"clarity": 1, "depth": [1, 1e39]}, NAMES)


RATINGS = [[[1.0, 2.0], [3.0]], [[], [0.5, 1.0, 4.0]]]


def test_the_array_of_ratings_is_padded_with_nan_to_the_largest_number_of_annotators():
    expected = [[[1, 2, NAN], [3, NAN, NAN]], [[NAN, NAN, NAN], [0.5, 1, 4]]]
    array = ratings_array(RATINGS)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize("width, expected", [(5, 5), (2, 3)])
def test_the_array_of_ratings_is_padded_to_a_width_but_never_cut(width, expected):
    array = ratings_array(RATINGS, width=width)
    assert array.shape == (2, 2, expected)
    assert np.isfinite(array).sum() == 6


def test_statistics_equal_those_of_all_ratings_of_each_attribute():
    means, stds = rating_statistics(ratings_array(RATINGS), NAMES)
    clarity, depth = [1.0, 2.0], [3.0, 0.5, 1.0, 4.0]
    assert means == pytest.approx([np.mean(clarity), np.mean(depth)])
    assert stds == pytest.approx([np.std(clarity), np.std(depth)])


@pytest.mark.parametrize("value, count", [(4.0, 3), (0.1, 1000), (3.3, 997)])
def test_an_attribute_whose_ratings_are_all_the_same_has_std_1(value, count):
    ratings = ratings_array([[[value], [float(row)]] for row in range(count)])
    means, stds = rating_statistics(ratings, NAMES)
    assert stds[0] == 1.0
    assert means[0] == pytest.approx(value)
    assert stds[1] == pytest.approx(np.std(np.arange(count)))


def test_an_attribute_that_no_row_rates_is_an_error_that_names_it():
    with pytest.raises(ValueError, match="attribute 'depth' has no rating in any row"):
        rating_statistics(ratings_array([[[1.0], []], [[2.0], []]]), NAMES)


def test_a_list_of_ratings_is_read_in_the_order_of_the_attributes():
    assert read_ratings({"ratings": [4, [1, 2], None]}, ["a", "b", "c"]) == [[4.0], [1.0, 2.0], []]


def test_a_list_with_more_or_fewer_ratings_than_attributes_is_refused():
    for ratings in ([4], [4, 3, 2]):
        with pytest.raises(ValueError, match=rf"`ratings` has {len(ratings)} entries for the 2 attributes"):
            read_ratings({"ratings": ratings}, ["a", "b"])


def test_a_row_is_rated_if_any_form_of_its_ratings_holds_one():
    for row in ({"a": 0}, {"a": [None, 2]}, {"ratings": {"a": [1]}}, {"ratings": [1]}):
        assert is_rated(row, ["a"])
    for row in ({"a": None}, {"a": []}, {"a": [None]}, {"ratings": {"a": None}}, {"ratings": [None]}):
        assert not is_rated(row, ["a"])
