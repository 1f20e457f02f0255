"""Whatever stands in a row, it is read, or refused with a ValueError: never a traceback, never a row lost."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.helpers.format_rows import EXAMPLES
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.formats.choices import rank_pairs, split_candidates
from urm_hf.data.formats.reading import FORMATS, read_row
from urm_hf.data.survey.survey import Surveyor
from urm_hf.data.survey.text import to_json

NAMES = sorted({column for one in FORMATS for column in (*one.columns, *one.optional)} | {"id", "split", "ratings"})
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["role", "content", "from", "value", "response", "rank"]), inner, max_size=3)
    ),
    max_leaves=6,
)
ROWS = [row for one in EXAMPLES for row in [*one.rows, *one.ties]]


@st.composite
def damaged_rows(draw):
    """A row of a known format, of which some columns are missing or hold something else; or any columns at all."""
    row = dict(draw(st.sampled_from(ROWS) | st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=5)))
    for column in draw(st.lists(st.sampled_from(sorted(row)), max_size=2)) if row else []:
        row.pop(column, None)
    changed = draw(st.dictionaries(st.sampled_from(sorted(row)), VALUES, max_size=2)) if row else {}
    return row | changed


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
