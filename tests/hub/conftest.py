"""A Hub on loopback, and a complete folder to push to it."""

import shutil
from pathlib import Path

import pytest

import urm_hf.hub.card.plot
from tests.helpers.hub_folders import TWO
from tests.helpers.hub_server import hub, module_hub  # noqa: F401  (fixtures)
from tests.helpers.tiny import save_with_tokenizer, tiny_urm


@pytest.fixture
def server(hub, monkeypatch, tmp_path):  # noqa: F811
    hub.attach(monkeypatch, tmp_path / "home")
    return hub


@pytest.fixture(scope="module", autouse=True)
def one_plot(tmp_path_factory):
    """Plots are drawn once and then copied: drawing takes most of a push's time."""
    draw, path = urm_hf.hub.card.plot.plot_reference, tmp_path_factory.mktemp("plot") / "plot.png"

    def copy(rows, to):
        return Path(shutil.copyfile(path if path.is_file() else draw(rows, path), to))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(urm_hf.hub.card.plot, "plot_reference", copy)
        yield


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """A complete folder; tests copy it."""
    return Path(save_with_tokenizer(tiny_urm(**TWO), tmp_path_factory.mktemp("saved") / "urm"))


@pytest.fixture
def folder(saved, tmp_path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "urm"))
