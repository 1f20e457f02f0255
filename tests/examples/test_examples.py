"""The example scripts run as a user would start them, on tiny models and files."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from transformers import AutoModel

from tests.helpers.programs import run_command
from tests.helpers.tiny import tiny_backbone_config, tiny_tokenizer
from urm_hf.trainers.plot import _plot_curve, compute_running_mean, plot_training

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    """A tiny base, ratings and pairs with the three splits."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("examples")
    AutoModelForCausalLM.from_config(tiny_backbone_config("llama")).save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    splits = {"train": 12, "validation": 4, "test": 4}
    ratings, pairs = [], []
    for split, count in splits.items():
        for i in range(count):
            prompt = [{"role": "user", "content": f"{split} {i // 2}?"}]
            rated = {"fluency": [i % 5, (i + 1) % 5], "relevance": [4 - i % 5]}
            ratings.append({"prompt": prompt, "response": "x" * (i + 1), "ratings": rated, "split": split})
            pairs.append({"prompt": prompt, "chosen": "y" * (i + 2), "rejected": f"z{i}", "split": split})
    for name, rows in (("ratings", ratings), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {name: str(folder / name) for name in ("base", "ratings.jsonl", "pairs.jsonl")} | {"folder": str(folder)}


def run(script: str, *argv: str, cache: str) -> str:
    environment = os.environ | {"URM_CACHE": cache, "OMP_NUM_THREADS": "1"}
    return run_command([sys.executable, str(ROOT / script), *argv], env=environment)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--lora_epochs", "1", "--max_train_rows", "6")], ids=["frozen", "lora"])
def test_ratings_and_pairs_prints_a_table_and_saves_a_model(files, tmp_path, extra):
    out = tmp_path / "urm"
    data = ("--ratings", files["ratings.jsonl"], "--pairs", files["pairs.jsonl"], "--scale", "0", "4", "1")
    argv = (
        "--base",
        files["base"],
        *data,
        "--attributes",
        "fluency",
        "relevance",
        "--out",
        str(out),
        "--bootstrap_samples",
        "20",
    )
    printed = run("examples/ratings_and_pairs.py", *argv, *extra, cache=files["folder"])
    assert "Test: 4 conversations, 2 prompts, 12 ratings" in printed
    assert "length only" in printed
    results = json.loads((out / "results.json").read_text())
    assert set(results["pairs"]) == {"gated", "equal weights", "length only"}
    assert results["pairs"]["length only"]["accuracy"] == 0.75  # "yy" is as long as "z0": a tie, and ties are wrong
    assert AutoModel.from_pretrained(out).config.attributes == ["fluency", "relevance"]


@pytest.mark.slow
def test_the_posterior_is_measured_against_members_networks_and_a_density(files, tmp_path):
    argv = ("--base", files["base"], "--ratings", files["ratings.jsonl"], "--attributes", "fluency", "relevance")
    rest = ("--others", files["pairs.jsonl"], "--bootstrap_samples", "20", "--members", "2", "--out", str(tmp_path))
    printed = run("examples/posterior.py", *argv, *rest, cache=files["folder"])
    assert "against 4 test conversations" in printed and "| one model, sigma^2 + posterior |" in printed
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["n"] == {"train": 12, "test": 4}
    measures = {"posterior, one model", "2 members", "5 networks", "random-feature Gaussian process", "Mahalanobis"}
    assert set(results["unfamiliar"]["arithmetic"]) >= measures
    assert all(0 <= value[0] <= 1 for kind in results["unfamiliar"].values() for value in kind.values())
    assert results["likelihood"]["one model, sigma^2"]["difference"] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize("extra", [(), ("--lora_epochs", "2", "--max_train_rows", "10")], ids=["frozen", "lora"])
def test_merging_prints_a_row_for_each_loss_and_model(files, tmp_path, extra):
    argv = ("--base", files["base"], "--ratings", files["ratings.jsonl"], "--attributes", "fluency", "relevance")
    out = ("--scale", "0", "4", "--out", str(tmp_path))
    printed = run("examples/merging.py", *argv, *out, *extra, cache=files["folder"])
    rows = [line.split("|")[1:3] for line in printed.splitlines() if line.startswith(("| mle", "| reg", "| det"))]
    assert len(rows) == 12
    bodies = [load_file(tmp_path / f"mle-{name}" / "model.safetensors") for name in ("0", "1", "merged")]
    # adapters of two seeds differ, and are merged into their bodies; a frozen body is named, not saved
    assert all(any(key.startswith("model.") for key in body) == bool(extra) for body in bodies)
    first, second, merged = (
        body["model.layers.0.mlp.up_proj.weight" if extra else "score.value.weight"] for body in bodies
    )
    assert not torch.equal(first, second)
    torch.testing.assert_close(merged, (first + second) / 2)


def test_a_training_plot_needs_something_to_show(tmp_path):
    with pytest.raises(ValueError, match="logging_steps"):
        plot_training([{"step": 1, "train_runtime": 2.0}], tmp_path / "x.png")


def test_a_training_plot_is_a_png_with_a_panel_for_what_was_logged(tmp_path):
    history = [{"step": 1, "loss": 2.0, "mean_std": 1.0}, {"step": 2, "eval_loss": 1.0, "eval_nll": 1.0}]
    path = plot_training(history, tmp_path / "folder" / "x.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_evaluation_of_what_is_kept_is_no_jump_of_the_training():
    """It comes at the step of the last one; joined by a line, it would be a spike that nothing explains."""
    axis = Figure().add_subplot()
    entries = [{"step": step, "eval_nll": value} for step, value in ((1, 3.0), (2, 2.0), (3, 2.5), (3, 2.0))]
    _plot_curve(axis, "eval_nll", entries)
    curve, star = axis.lines
    assert curve.get_xdata().tolist() == [1, 2, 3] and curve.get_ydata().tolist() == [3.0, 2.0, 2.5]
    assert (star.get_xdata(), star.get_ydata(), star.get_label()) == ([3], [2.0], "of what is kept")


def test_a_long_log_is_drawn_behind_its_running_mean():
    values = np.sin(np.arange(60.0))
    mean = compute_running_mean(values, 7)
    expected = [values[max(0, place - 3) : place + 4].mean() for place in range(60)]
    np.testing.assert_allclose(mean, expected, atol=1e-12)
    axis = Figure().add_subplot()
    _plot_curve(axis, "loss", [{"step": step, "loss": value} for step, value in enumerate(values)])
    smooth, raw = axis.lines
    np.testing.assert_allclose(smooth.get_ydata(), expected, atol=1e-12)
    np.testing.assert_array_equal(raw.get_ydata(), values)
