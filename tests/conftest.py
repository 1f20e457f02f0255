"""Tiny models, tokenizers and folders, built in code: no test touches the network."""

import os
from collections import Counter

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported
import pytest
import torch
from transformers import PreTrainedModel

from tests.helpers.judge_server import judge_of_a_test
from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_urm
from urm_hf import URMEnsemble


def pytest_collection_modifyitems(items: list[pytest.Item]):
    """Files with many slow tests first: a worker that meets one of them last works on while the others are done."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory):
    """Nothing is read from or written to the user's cache, also by processes that tests start."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("URM_CACHE", str(tmp_path_factory.mktemp("urm-cache")))
        yield


def _functions_of_the_process() -> dict[str, object]:
    """What transformers replaces while it loads a model."""
    names = ("normal_", "uniform_", "zeros_", "ones_")
    swapped: dict[str, object] = {name: getattr(torch.nn.init, name) for name in names}
    return swapped | {
        "tie_weights": PreTrainedModel.tie_weights,
        "init_weights": PreTrainedModel.init_weights,
        "default dtype": torch.get_default_dtype(),
    }


@pytest.fixture(autouse=True)
def functions_are_put_back():
    """
    A test that leaves one of them replaced, as loads that overlap in threads do, fails itself: later ones that draw
    members at random would find them equal.
    """
    before = _functions_of_the_process()
    yield
    assert _functions_of_the_process() == before


@pytest.fixture
def saved_urm(tmp_path) -> str:
    """A folder with `tiny_urm()` and `tiny_tokenizer()`."""
    return save_with_tokenizer(tiny_urm(), tmp_path / "urm")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> list[str]:
    """Three members that differ in seed."""
    return save_members(tmp_path_factory.mktemp("members"), [tiny_urm(seed=seed) for seed in range(3)])


@pytest.fixture(scope="module")
def ensemble(folders) -> URMEnsemble:
    return URMEnsemble.from_pretrained(folders)


@pytest.fixture
def judge(monkeypatch):
    """A judge on loopback."""
    with judge_of_a_test(monkeypatch) as fake:
        yield fake
