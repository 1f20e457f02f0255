"""The notebooks of examples/notebooks run from the first cell to the last, on a tiny base and tiny members."""

import os
from pathlib import Path

import pytest

from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_urm
from urm_hf.demo.base import tiny_model

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "examples" / "notebooks"
LIMIT = 1800  # seconds after which a cell hangs for ever


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "uncertainty"])
def test_a_notebook_runs_whole(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    backbone, tokenizer = tiny_model()
    backbone.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    monkeypatch.setenv("URM_BASE", str(tmp_path / "base"))
    config = tiny_backbone_config(max_position_embeddings=2048)  # bytes are many tokens
    members = [
        save_with_tokenizer(tiny_urm(seed=seed, backbone=config), tmp_path / f"member-{seed}") for seed in range(3)
    ]
    monkeypatch.setenv("URM_ENSEMBLE", ",".join(members))
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    client = nbclient.NotebookClient(notebook, timeout=LIMIT, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "of" in "".join(output.get("text", "") for output in outputs)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    """What a run printed on somebody's machine is no part of the example, and would differ in every commit."""
    notebook = nbformat.read(path, as_version=4)
    assert [cell.id for cell in notebook.cells if cell.get("outputs") or cell.get("execution_count")] == []
