"""An ensemble of three members, and what each gives alone."""

import pytest

from tests.helpers.ensembles import SEEDS, run
from tests.helpers.tiny import save_members, tiny_urm
from urm_hf.modeling import URMEnsemble, URMEnsembleOutput


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> list[str]:
    """Folders of three URMs that differ in seed."""
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in SEEDS])


@pytest.fixture(scope="module")
def ensemble(members) -> URMEnsemble:
    return URMEnsemble.from_pretrained(members)


@pytest.fixture(scope="module")
def output(ensemble) -> URMEnsembleOutput:
    return run(ensemble)
