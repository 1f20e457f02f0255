"""The weight of a rated row, where a posterior is fitted: a row of weight 2 is one that stands there twice."""

import numpy as np
import pytest
import torch

from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, rated_rows
from urm_hf import URMForRewardModeling
from urm_hf.cli import main
from urm_hf.trainers import rated_states
from urm_hf.trainers.posteriors import fit_head_intervals, fit_head_posterior
from urm_hf.trainers.rated_states import RatedStates
from urm_hf.trainers.row_weights import count_copies

WEIGHTS = np.tile([1.0, 2.0, 3.0], 24)


def make_parts(rows: int = 72, prompts: int = 24, seed: int = 0):
    """Hidden states, ratings of two attributes, some of which are missing, and prompts."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(rows, 64)).astype(np.float32)
    ratings = hidden[:, :2, None] + generator.normal(size=(rows, 2, 2))
    ratings[::7, 1] = np.nan
    return hidden, ratings, list(generator.integers(prompts, size=rows))


def fit(copies, weights, weigh: bool):
    hidden, ratings, prompts = make_parts()
    model = tiny_urm(attributes=ATTRIBUTES)
    with torch.no_grad():
        model.score.value.weight.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    parts = hidden[copies], ratings[copies], [prompts[row] for row in copies]
    states = RatedStates(model, *parts, weigh=weigh, weights=weights)
    posterior = fit_head_posterior(states, levels=[0.5, 0.8])
    return states, posterior


@pytest.mark.parametrize("weigh", [False, True])
@pytest.mark.parametrize("unit", [1, 0.25])
def test_whole_weights_are_as_many_rows(monkeypatch, weigh, unit):
    """Of a quarter of the weight, the moments are a quarter; what residuals tell is the same."""
    monkeypatch.setattr(rated_states, "ROWS", 7)
    twice, expected = fit(np.repeat(np.arange(72), WEIGHTS.astype(int)), None, weigh)
    weighed, found = fit(np.arange(72), unit * WEIGHTS, weigh)
    for ours, theirs in zip(weighed.moments, twice.moments, strict=True):
        for name in ("ratings", "mass", "inverse_mass"):
            np.testing.assert_allclose(getattr(ours, name), unit * getattr(theirs, name), err_msg=name)
    if unit != 1:
        return
    for name in ("label_mean", "noise", "share", "intercept", "precision"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, err_msg=name)
    hidden = make_parts(seed=9)[0]
    np.testing.assert_allclose(found.epistemic(hidden), expected.epistemic(hidden), rtol=1e-5)
    np.testing.assert_allclose(found.predict(hidden), expected.predict(hidden), rtol=1e-4, atol=1e-5)
    factors = [states.model.config.interval_factors for states in (weighed, twice)]
    for level in ("0.5", "0.8"):
        assert factors[0][level] == pytest.approx(factors[1][level], rel=1e-4)
    before, again = fit_head_intervals(weighed, [0.5, 0.8]), fit_head_intervals(twice, [0.5, 0.8])
    np.testing.assert_allclose(before, again, rtol=1e-4)


def test_copies_are_in_proportion():
    for weights, expected in [
        ([1, 2, 3], [1, 2, 3]),
        ([0.5, 1, 1.5], [1, 2, 3]),
        ([2, 3], [2, 3]),
        ([0.2, 0.3, 0.3], [2, 3, 3]),
        ([1, 1, 1], [1, 1, 1]),
        ([1, 1e9], [1, 32]),
    ]:
        assert np.bincount(count_copies(np.array(weights, dtype=float))).tolist() == expected
    odd = np.random.default_rng(0).uniform(0.5, 1.5, size=200)
    copies = np.bincount(count_copies(odd))
    assert np.abs(copies / copies.mean() - odd / odd.mean()).max() < 0.04
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`weights` must be above 0 and finite"):
            RatedStates(tiny_urm(attributes=ATTRIBUTES), *make_parts(), weights=np.array([*WEIGHTS[1:], wrong]))


def test_the_command_and_training_read_the_column(tmp_path, monkeypatch):
    """Rows of weight 0 are as good as left out."""
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    plain = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "plain")
    rows, weights = rated_rows(40), [number % 3 for number in range(40)]
    twice = [row for row, weight in zip(rows, weights, strict=True) for _ in range(weight)]
    weighed = [row | {"weight": weight} for row, weight in zip(rows, weights, strict=True)]
    found = []
    for name, data in (("twice", twice), ("weighed", weighed)):
        command = ["posterior", plain, "--data", write(tmp_path / f"{name}.jsonl", data), "--out"]
        assert main([*command, str(tmp_path / name)]) == 0
        found.append(URMForRewardModeling.from_pretrained(tmp_path / name).score)
        options = {"freeze_backbone": True, "standardize_labels": False, "standardize_features": False}
        found.append(attribute_trainer(tmp_path / f"{name}-run", data, max_steps=1, **options).model.score)
    for one, other in ((0, 2), (1, 3)):
        for part in ("posterior_variances", "posterior_noise", "posterior_intercept"):
            np.testing.assert_allclose(getattr(found[one], part), getattr(found[other], part), rtol=1e-3, err_msg=part)


def test_rows_that_all_weigh_nothing_are_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("URM_CACHE", str(tmp_path / "cache"))
    plain = save_with_tokenizer(tiny_urm(attributes=ATTRIBUTES), tmp_path / "plain")
    data = write(tmp_path / "none.jsonl", rated_rows(40, weight=0))
    assert main(["posterior", plain, "--data", data, "--out", str(tmp_path / "out")]) == 2
    assert "all rows of the rated dataset have the `weight` 0" in capsys.readouterr().err
