"""Whatever stands in a row, it is read, or refused with a ValueError: never a traceback, never a row lost."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.row_strategies import damaged_rows
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.formats.reading import read_row
from urm_hf.data.survey.survey import Surveyor
from urm_hf.data.survey.text import to_json


def check_row(row):
    before = json.dumps(row, default=str)
    try:
        read = read_row(row)
        rank_pairs(read)
        split_candidates(read)
    except ValueError as error:
        assert str(error)
    try:
        conversations_of(row, Columns())
    except ValueError as error:
        assert "\n" not in str(error)
    assert json.dumps(row, default=str) == before  # a reader changes nothing


def check_survey(rows):
    surveyor = Surveyor(show=2)
    for row in rows:
        surveyor.add(row)
    found = surveyor.found
    refused = sum(problem.count for problem in found.problems.values())
    assert found.rows == len(rows) and sum(found.formats.values()) <= len(rows) and refused <= len(rows)
    json.dumps(to_json(found, "rows"))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged_rows())
def test_a_row_is_read_or_refused(row):
    check_row(row)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(damaged_rows(), max_size=5))
def test_a_survey_counts_every_row(rows):
    check_survey(rows)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(damaged_rows())
def test_ten_thousand_rows_are_read_or_refused(row):
    check_row(row)
    check_survey([row])


@pytest.mark.parametrize("candidates", [None, 5, True, "The Po."])
def test_a_column_of_candidates_beside_messages_is_no_list_of_answers(candidates):
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]}
    check_row(row | {"candidates": candidates})
    check_survey([row | {"candidates": candidates}])
