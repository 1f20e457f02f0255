"""Models in the published layout, and an evaluation of them written from its description alone."""

import pytest

from tests.helpers.published import write_published


@pytest.fixture
def published(tmp_path) -> str:
    return write_published(tmp_path / "published")
