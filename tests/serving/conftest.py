"""Servers of a tiny URM and of a tiny ensemble, each for the tests of one file."""

import pytest

from tests.helpers.reward_server import running_server
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer


@pytest.fixture(scope="module")
def urm():
    with running_server(RewardScorer(tiny_urm(), tiny_tokenizer()), name="tiny") as server:
        yield server


@pytest.fixture(scope="module")
def urme(ensemble):
    with running_server(RewardScorer(ensemble, tiny_tokenizer()), name="tiny-3") as server:
        yield server


@pytest.fixture(scope="module", params=["urm", "urme"])
def server(request):
    return request.getfixturevalue(request.param)
