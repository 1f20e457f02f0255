"""Members to merge, and what is asked of state dicts."""

import pytest

from tests.helpers.members import save_member


@pytest.fixture
def members(tmp_path) -> list[str]:
    return [save_member(tmp_path / f"seed-{seed}", seed) for seed in range(2)]
