"""The posterior in the head: its numbers, and that it stays with the weights."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from tests.helpers.posteriors import with_posterior
from tests.helpers.tiny import pad_rows, random_rows, save_members, tiny_urm
from tests.helpers.urm_numbers import assert_equal_state
from urm_hf import URMEnsemble, URMForRewardModeling
from urm_hf.modeling import URMConfig
from urm_hf.modeling.head_urm import POSTERIOR
from urm_hf.scores import RewardScore, output_rows
from urm_hf.uncertainty.measures import available, compute_uncertainty

INPUTS = pad_rows(random_rows([9, 14, 5]))


@pytest.mark.parametrize("unrated", [0, 15])
@pytest.mark.parametrize("rank", [None, 3])
def test_the_output_is_the_closed_form(rank, unrated):
    model, posterior = with_posterior(rank=rank, unrated=unrated)
    assert (np.abs(posterior.offsets[0]).max() > 0.01) == bool(unrated)
    output = model(**INPUTS)
    expected = posterior.epistemic(output.pooled_hidden.detach().double().numpy())
    torch.testing.assert_close(
        output.attribute_epistemic_stds.double(), torch.from_numpy(expected).sqrt(), rtol=1e-4, atol=0
    )
    weighed = (output.gating_weights.square() * output.attribute_epistemic_stds.square()).sum(-1).sqrt()
    torch.testing.assert_close(output.reward_epistemic_std, weighed)
    assert output.attribute_epistemic_stds.shape == (3, 5) and output.reward_epistemic_std.shape == (3,)


def test_a_model_without_one_gives_none_and_says_what_to_do():
    output = tiny_urm()(**INPUTS)
    assert "attribute_epistemic_stds" not in output and "reward_epistemic_std" not in output
    for name in ("epistemic", "total", "reward_epistemic"):
        assert name not in available(output)
        with pytest.raises(ValueError, match=f"without a posterior.*{name} needs one .`urm posterior MODEL"):
            compute_uncertainty(output, name)
    assert "posterior_rank" not in tiny_urm().config.to_dict()


def test_the_measures_of_a_single_model():
    output = with_posterior()[0](**INPUTS)
    unknown = output.attribute_epistemic_stds.detach().square().numpy()
    noise = output.attribute_stds.detach().square().numpy()
    np.testing.assert_allclose(compute_uncertainty(output, "epistemic"), unknown.sum(-1), rtol=1e-5)
    np.testing.assert_allclose(compute_uncertainty(output, "total"), (unknown + noise).sum(-1), rtol=1e-5)
    scales = [1.0, 2.0, 3.0, 4.0, 5.0]
    for name, values in (("epistemic", unknown), ("total", unknown + noise)):
        scaled = (values / np.square(scales)).sum(-1)
        np.testing.assert_allclose(compute_uncertainty(output_rows(output, None), name, scales), scaled, rtol=1e-5)
    std = compute_uncertainty(output, "reward_epistemic")
    np.testing.assert_allclose(std, output.reward_epistemic_std.detach().numpy(), rtol=1e-6)


@pytest.mark.parametrize("unrated", [0, 15])
@pytest.mark.parametrize("auto", [AutoModel, URMForRewardModeling])
def test_it_is_saved_with_the_weights(tmp_path, auto, unrated):
    model, _ = with_posterior(rank=4, unrated=unrated)
    model.save_pretrained(tmp_path)
    loaded = auto.from_pretrained(tmp_path)
    assert loaded.config.posterior_rank == 4
    assert_equal_state(loaded, model)
    torch.testing.assert_close(loaded(**INPUTS).reward_epistemic_std, model(**INPUTS).reward_epistemic_std)


@pytest.mark.parametrize("rank, unrated", [(None, 0), (3, 15)])
def test_intervals_are_around_the_posteriors_own_mean(rank, unrated):
    model, posterior = with_posterior(rank=rank, unrated=unrated)
    output = model(**INPUTS)
    hidden = output.pooled_hidden.detach().double().numpy()
    factors = np.array(list(model.config.interval_factors.values()))  # (L, n)
    half = factors * posterior.predictive_stds(hidden)[:, None]
    expected = np.stack([posterior.predict(hidden)[:, None] - half, posterior.predict(hidden)[:, None] + half], -1)
    assert list(model.config.interval_factors) == ["0.5", "0.9"] and expected.shape == (3, 2, 5, 2)
    np.testing.assert_allclose(output.attribute_intervals.detach(), expected, rtol=1e-3, atol=1e-4)


def test_intervals_end_where_a_known_scale_does_and_lose_no_rating_of_it():
    model, _ = with_posterior()
    wide = model(**INPUTS).attribute_intervals.detach()
    first, second, *rest = model.config.attributes
    low, high = wide[..., 0, :].mean().item() - 0.01, wide[..., 0, :].mean().item() + 0.01  # within most intervals
    model.config.attribute_scales = {first: [low, high], second: [1e6, 2e6, 1.0]}  # all of the second lie below
    ends = model(**INPUTS).attribute_intervals.detach()
    torch.testing.assert_close(ends[..., 2:, :], wide[..., 2:, :], rtol=0, atol=0)
    torch.testing.assert_close(ends[..., 0, :], wide[..., 0, :].clamp(low, high), rtol=0, atol=0)
    assert (ends[..., 1, :] == 1e6).all()
    ratings = torch.linspace(low, high, 50)  # what can be said: held by the one interval where by the other
    inside = [(part[..., :1] <= ratings) & (ratings <= part[..., 1:]) for part in (wide[..., 0, :], ends[..., 0, :])]
    assert (inside[1] | ~inside[0]).all()


def test_intervals_are_saved_scored_and_forgotten_with_the_posterior(tmp_path):
    model, _ = with_posterior()
    model.save_pretrained(tmp_path)
    loaded = URMForRewardModeling.from_pretrained(tmp_path)
    assert loaded.config.interval_factors == model.config.interval_factors
    output = loaded(**INPUTS)
    (row, *_) = output_rows(output, loaded.config.attributes, list(loaded.config.interval_factors))
    name = loaded.config.attributes[2]
    assert row["intervals"]["0.9"][name] == pytest.approx(output.attribute_intervals[0, 1, 2].tolist())
    score = RewardScore(**row)
    low, high = score.attribute_intervals(level=0.9)[name]
    narrow = score.attribute_intervals(0.5)[name]
    assert low < narrow[0] < narrow[1] < high
    with pytest.raises(ValueError, match="`level` must be one of 0.5, 0.9, got 0.7"):
        score.attribute_intervals(0.7)
    with pytest.raises(ValueError, match="no intervals: its model is not calibrated. `urm calibrate"):
        RewardScore(reward=1.0).attribute_intervals()
    loaded.score.drop_posterior()
    assert loaded.config.interval_factors is None and "attribute_intervals" not in loaded(**INPUTS)


@pytest.mark.parametrize(
    "factors, message",
    [
        ({"1.5": [1.0] * 5}, "level 1.5; it must lie between 0 and 1"),
        ({"0.9": [1.0] * 4}, r"`interval_factors\[0.9\]` needs one number for each of the 5 attributes"),
        ({"0.9": [1.0] * 4 + [-1.0]}, "must be 0 or more and finite"),
    ],
)
def test_factors_that_cannot_be_are_refused(factors, message):
    backbone = tiny_urm().config.backbone_config
    with pytest.raises(ValueError, match=message):
        URMConfig(backbone_config=backbone, posterior_rank=4, interval_factors=factors)
    with pytest.raises(ValueError, match="are of a posterior, and there is none"):
        URMConfig(backbone_config=backbone, interval_factors={"0.9": [1.0] * 5})


def test_it_survives_bfloat16_bodies(tmp_path):
    model, _ = with_posterior()
    model.save_pretrained(tmp_path)
    loaded = URMForRewardModeling.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.score.posterior_basis.dtype == torch.float32
    expected, found = (m(**INPUTS).attribute_epistemic_stds for m in (model, loaded))
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0)


def test_it_computes_in_a_model_of_any_precision():
    model, _ = with_posterior()
    hidden = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = model(pooled_hidden=hidden).attribute_epistemic_stds
        found = model.double()(pooled_hidden=hidden).attribute_epistemic_stds
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=0)


def test_a_level_is_found_in_any_precision_and_others_are_refused():
    score = RewardScore(intervals={"0.5": {"help": [1.0, 2.0]}, "0.9": {"help": [0.0, 3.0]}})
    for level in (0.9, "0.9", np.float32(0.9)):
        assert score.attribute_intervals(level) == {"help": (0.0, 3.0)}
    for level in (None, [0.9], "90%", 0.91, float("nan"), 1):
        with pytest.raises(ValueError, match="`level` must be one of 0.5, 0.9, got"):
            score.attribute_intervals(level)


def test_dropping_it_leaves_the_model_as_it_was():
    model, _ = with_posterior()
    model.score.drop_posterior()
    assert_equal_state(model, tiny_urm())
    assert "attribute_epistemic_stds" not in model(**INPUTS)


@pytest.mark.parametrize("standardized", [False, True])
def test_members_posteriors_add_to_their_disagreement(tmp_path, standardized):
    """The law of total variance, by sums over members; each part has a name of its own."""
    models = [with_posterior(seed)[0] for seed in range(3)]
    ensemble = URMEnsemble.from_pretrained(save_members(tmp_path, models))
    scale = torch.ones(3, 1)
    if standardized:
        ensemble.standardize(torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 4.0]]))
        scale = torch.tensor(ensemble.config.reward_stds)[:, None]
    outputs, output = [model(**INPUTS) for model in models], ensemble(**INPUTS)
    means = torch.stack([single.attribute_means for single in outputs])
    unknown = torch.stack([single.attribute_epistemic_stds for single in outputs]).square().mean(0)
    apart = (means - means.mean(0)).square().mean(0)
    torch.testing.assert_close(output.disagreement_variance, apart)
    torch.testing.assert_close(output.posterior_variance, unknown)
    torch.testing.assert_close(output.epistemic_variance, apart + unknown)
    rewards = output.rewards
    own = torch.stack([single.reward_epistemic_std for single in outputs]) / scale
    reward_unknown = (rewards - rewards.mean(0)).square().mean(0) + own.square().mean(0)
    torch.testing.assert_close(output.reward_epistemic_std, reward_unknown.sqrt())
    noise = (torch.stack([single.reward_std for single in outputs]) / scale).square().mean(0)
    torch.testing.assert_close(output.reward_std, (noise + reward_unknown).sqrt())
    for name, values in (("epistemic", apart + unknown), ("disagreement", apart)):
        found = compute_uncertainty(output, name)
        np.testing.assert_allclose(found, values.sum(-1).detach().numpy(), rtol=1e-5)
        scaled = (values / torch.arange(1.0, 6.0).square()).sum(-1).detach().numpy()
        np.testing.assert_allclose(compute_uncertainty(output, name, [1.0, 2.0, 3.0, 4.0, 5.0]), scaled, rtol=1e-4)
    found = compute_uncertainty(output, "reward_epistemic")
    np.testing.assert_allclose(found, reward_unknown.sqrt().detach().numpy(), rtol=1e-5)


def test_posteriors_count_where_every_member_has_one(tmp_path):
    """What one member does not know says nothing of the others: the ensemble is then judged by its members alone."""
    models = [with_posterior(0)[0], tiny_urm(seed=1)]
    ensemble = URMEnsemble.from_pretrained(save_members(tmp_path, models))
    plain = URMEnsemble.from_pretrained(save_members(tmp_path / "plain", [tiny_urm(seed=seed) for seed in range(2)]))
    output = ensemble(**INPUTS)
    assert "posterior_variance" not in output
    torch.testing.assert_close(output.epistemic_variance, plain(**INPUTS).epistemic_variance)
    torch.testing.assert_close(output.reward_epistemic_std, plain(**INPUTS).rewards.std(0, correction=0))


def test_a_posterior_of_another_version_is_told(tmp_path):
    model, _ = with_posterior()
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["score.posterior_offsets"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="a posterior of another version of these files: fit it again"):
        URMForRewardModeling.from_pretrained(tmp_path)


def test_a_model_and_itself_with_a_posterior_are_no_ensemble(tmp_path):
    plain, fitted = tiny_urm(), with_posterior()[0]
    with pytest.raises(ValueError, match="have equal heads"):
        URMEnsemble.from_pretrained(save_members(tmp_path, [plain, fitted]))


def test_a_posterior_that_does_not_fit_is_refused():
    correlated = with_posterior(unrated=15)[0]
    assert correlated.config.posterior_correlated and correlated.score.posterior_variances.shape == (5, 64, 64)
    correlated.score.drop_posterior()
    assert "posterior_correlated" not in correlated.config.to_dict()
    head = with_posterior()[0].score
    parts = [getattr(head, name).clone() for name in POSTERIOR]
    with pytest.raises(ValueError, match=r"`posterior_variances` must be \(5, 64\), got \(5, 3\)"):
        head.set_posterior(*parts[:4], parts[4][:, :3], *parts[5:])
    with pytest.raises(ValueError, match="`posterior_rest` holds numbers that are negative"):
        head.set_posterior(*parts[:5], parts[5] - 1, *parts[6:])
    with pytest.raises(ValueError, match="`posterior_rank` must lie between 1 and the hidden size 64, got 65"):
        URMConfig(backbone_config=tiny_urm().config.backbone_config, posterior_rank=65)
