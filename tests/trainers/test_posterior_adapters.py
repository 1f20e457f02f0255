"""The posterior of a URM with an adapter: fitted in memory, by command, loaded alone and in ensembles."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from tests.helpers.adapters import save_adapter
from tests.helpers.commands import write
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from tests.helpers.training import rated_rows
from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling, load_adapter
from urm_hf.checkpoints.adapters import complete_adapter
from urm_hf.cli import main
from urm_hf.trainers.posteriors import fit_head_posterior
from urm_hf.trainers.rated_states import RatedStates

ATTRIBUTES = ["help", "depth"]
ROWS = rated_rows(40)
TEXTS = [row["text"] for row in ROWS]


@pytest.fixture
def base(tmp_path) -> str:
    return save_with_tokenizer(tiny_urm(seed=7, attributes=ATTRIBUTES), tmp_path / "base")


def make_adapter(base: str, folder: Path, seed: int = 0) -> str:
    return str(save_adapter(URMForRewardModeling.from_pretrained(base), folder, seed))


def fit(adapter: str, folder: Path, *options: str) -> str:
    data = write(folder.parent / "rated.jsonl", ROWS)
    assert main(["posterior", adapter, "--data", data, "--out", str(folder), *options]) == 0
    return str(folder)


@pytest.mark.parametrize("rank", [[], ["--rank", "8"]])
def test_the_command_gives_an_adapter_one_and_leaves_it_an_adapter(tmp_path, base, rank):
    adapter = make_adapter(base, tmp_path / "adapter")
    out = fit(adapter, tmp_path / "out", *rank)
    assert (Path(out) / "adapter_model.safetensors").is_file() and not (Path(out) / "model.safetensors").exists()
    assert json.loads((Path(out) / "config.json").read_text())["posterior_rank"] == (8 if rank else 64)
    merged = load_adapter(adapter)
    states = RewardScorer(merged, tiny_tokenizer()).score(TEXTS)
    before, after = states, RewardScorer(out).score(TEXTS)
    assert [score.reward for score in after] == pytest.approx([score.reward for score in before])
    whole = save_with_tokenizer(merged, tmp_path / "whole")  # a model of the same weights without an adapter
    expected = RewardScorer(fit(whole, tmp_path / "of-whole", *rank)).score(TEXTS)
    for ours, theirs in zip(after, expected, strict=True):
        assert ours.reward_epistemic_std == pytest.approx(theirs.reward_epistemic_std, rel=1e-3)
        assert ours.attribute_intervals()["help"] == pytest.approx(theirs.attribute_intervals()["help"], rel=1e-3)


def test_attributes_that_other_rows_rate_stay_with_an_adapter(tmp_path, base):
    rows = [row if number % 3 else {**row, "depth": None} for number, row in enumerate(ROWS)]
    data, out = write(tmp_path / "holes.jsonl", rows), str(tmp_path / "out")
    adapter = make_adapter(base, tmp_path / "adapter")
    assert main(["posterior", adapter, "--data", data, "--out", out, "--rank", "6"]) == 0
    model = load_adapter(out)
    assert model.config.posterior_correlated and model.score.posterior_variances.shape == (2, 6, 6)
    (alone,) = RewardScorer(out).score(TEXTS[:1])
    ensemble = URMEnsemble.from_pretrained([out, make_adapter(base, tmp_path / "other", 1)])
    (score,) = RewardScorer(ensemble, tiny_tokenizer()).score(TEXTS[:1])
    assert alone.epistemic_variance > 0 and score.epistemic_variance > 0


def test_it_can_be_fitted_again_and_calibrated(tmp_path, base):
    first = fit(make_adapter(base, tmp_path / "adapter"), tmp_path / "first")
    again = fit(first, tmp_path / "again", "--rank", "5")
    data = str(tmp_path / "rated.jsonl")
    out = str(tmp_path / "calibrated")
    assert main(["calibrate", again, "--data", data, "--out", out, "--levels", "0.7"]) == 0
    model = load_adapter(out)
    assert model.config.posterior_rank == 5 and list(model.config.interval_factors) == ["0.7"]
    assert model.score.config is model.config


@pytest.mark.parametrize("strategy", ["resident", "sequential"])
def test_adapters_of_one_base_have_their_own(tmp_path, base, strategy):
    adapters = [make_adapter(base, tmp_path / f"adapter-{seed}", seed) for seed in range(2)]
    fitted = [fit(adapter, tmp_path / f"out-{k}", "--rank", str(4 + k)) for k, adapter in enumerate(adapters)]
    ensemble = RewardScorer(URMEnsemble.from_pretrained(fitted, strategy=strategy), tiny_tokenizer())
    alone = [RewardScorer(name).score(TEXTS) for name in fitted]
    for score, *own in zip(ensemble.score(TEXTS), *alone, strict=True):
        apart = sum(std**2 for std in score.attribute_disagreement_stds.values())
        unknown = np.mean([single.epistemic_variance for single in own])
        assert score.epistemic_variance == pytest.approx(apart + unknown, rel=1e-3)


def test_a_posterior_of_the_base_is_none_of_the_adapter(tmp_path, base):
    fitted = fit(base, tmp_path / "fitted")
    adapter = make_adapter(fitted, tmp_path / "adapter")
    model = URMForRewardModeling.from_pretrained(fitted)
    model.score.drop_posterior()
    plain = str(save_adapter(model, tmp_path / "plain", 0))
    assert load_adapter(adapter).score.has_posterior
    loaded = load_adapter(plain)
    assert not loaded.score.has_posterior and loaded.config.posterior_rank is None
    assert RewardScorer(plain).score(TEXTS[:2])[0].epistemic_variance is None


def score_in_torch(model) -> dict:
    """Of the first text."""
    ids = torch.tensor([tiny_tokenizer()(TEXTS[0])["input_ids"]])
    with torch.no_grad():
        return model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids))


def test_plain_peft_loads_it_too_and_says_what_it_leaves_out(tmp_path, base, caplog, monkeypatch):
    """Into a copy of the base's head, which has none."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    adapter = make_adapter(base, tmp_path / "adapter")
    fitted = fit(adapter, tmp_path / "out", "--rank", "6")
    (expected,) = RewardScorer(fitted).score(TEXTS[:1])
    stds = pytest.approx(list(expected.attribute_epistemic_stds.values()), rel=1e-4)
    assert "no intervals" not in caplog.text  # of our own loading, which has them
    loaded = PeftModel.from_pretrained(URMForRewardModeling.from_pretrained(base), fitted)
    assert score_in_torch(loaded)["attribute_epistemic_stds"][0].tolist() == stds
    assert "posterior is loaded, but no intervals" in caplog.text
    second = PeftModel.from_pretrained(URMForRewardModeling.from_pretrained(base), adapter)
    assert "attribute_epistemic_stds" not in score_in_torch(second)
    second.load_adapter(fitted, "fitted")
    second.set_adapter("fitted")
    assert score_in_torch(second)["attribute_epistemic_stds"][0].tolist() == stds


def test_plain_peft_refuses_a_posterior_of_the_base_that_is_not_the_adapter_s(tmp_path, base):
    adapter = make_adapter(base, tmp_path / "adapter")
    fitted = fit(adapter, tmp_path / "out", "--rank", "6")
    below = fit(base, tmp_path / "below", "--rank", "5")
    with pytest.raises(KeyError, match="posterior_"):
        PeftModel.from_pretrained(URMForRewardModeling.from_pretrained(below), adapter)
    with pytest.raises(RuntimeError, match="size mismatch for .*posterior_basis"):
        PeftModel.from_pretrained(URMForRewardModeling.from_pretrained(below), fitted)


def test_a_scale_stays_with_an_adapter(tmp_path, base):
    out = fit(make_adapter(base, tmp_path / "adapter"), tmp_path / "out", "--attribute-scales", '{"help": [0, 4]}')
    assert load_adapter(out).config.attribute_scales == {"help": [0.0, 4.0]}
    ends = [score.attribute_intervals(0.95) for score in RewardScorer(out).score(TEXTS)]
    assert (
        min(low for one in ends for low in one["help"]) == 0 and max(high for one in ends for high in one["help"]) == 4
    )
    assert min(low for one in ends for low in one["depth"]) < 0


def test_it_is_fitted_to_a_model_in_memory(tmp_path, base):
    adapted = get_peft_model(
        URMForRewardModeling.from_pretrained(base),
        LoraConfig(target_modules=["q_proj"], modules_to_save=["score"], r=2),
    )
    hidden = np.random.default_rng(0).normal(size=(60, 64))
    ratings = hidden[:, :2, None] + np.random.default_rng(1).normal(size=(60, 2, 1))
    posterior = fit_head_posterior(RatedStates(adapted, hidden.astype(np.float32), ratings), levels=[0.5])
    assert adapted.config.posterior_rank == 64 and list(adapted.config.interval_factors) == ["0.5"]
    adapted.save_pretrained(tmp_path / "saved")
    complete_adapter(tmp_path / "saved", adapted.config)
    loaded = load_adapter(tmp_path / "saved")
    np.testing.assert_allclose(loaded.score.posterior_variances.numpy(), posterior.variances, rtol=1e-5)
    assert loaded.config.interval_factors == adapted.config.interval_factors
