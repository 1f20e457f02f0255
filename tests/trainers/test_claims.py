"""
What the losses can and cannot learn, on data whose noise is known.

The features are a random backbone's hidden states of random texts, standardised. Of each attribute, mu and log sigma
are linear in them, and the ratings are drawn from N(mu, sigma^2): the model can represent the truth.
"""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.helpers.tiny import pad_rows, tiny_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, attribute_trainer, logged, random_texts

TRAIN, HELD_OUT = 4000, 1000
TRAINING = {
    "freeze_backbone": True,
    "num_train_epochs": 15,
    "per_device_train_batch_size": 128,
    "learning_rate": 1e-2,
    "weight_decay": 0.0,
    "standardize_labels": False,
    "standardize_features": False,
    "logging_steps": 50,
}


class Truth:
    """Texts with the mean and spread that their ratings are drawn from."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.model = tiny_urm(attributes=ATTRIBUTES)
        self.texts = random_texts(TRAIN + HELD_OUT, shortest=4, longest=6)
        ids = tiny_tokenizer()(self.texts, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            hidden = self.model.pool(**pad_rows(ids))
            std, mean = torch.std_mean(hidden, dim=0)
            self.model.score.feature_scale.copy_(std)
            self.model.score.feature_mean.copy_(mean - std)  # the features have mean 1: a constant can be learnt
        self.features = ((hidden - mean) / std).numpy() + 1
        self.means = 3 + self._linear(rng, 1.0)
        self.log_stds = -0.5 + self._linear(rng, 0.5)
        self.stds = np.exp(self.log_stds)
        self.ratings = rng.normal(self.means, self.stds)

    def _linear(self, rng, spread: float) -> np.ndarray:
        """Two random linear functions of the features' eight main directions, with this standard deviation, (N, 2)."""
        centred = self.features - self.features.mean(0)
        directions = np.linalg.svd(centred, full_matrices=False)[2][:8]
        values = centred @ directions.T @ rng.normal(size=(8, 2))
        return spread * values / values.std(0)

    def rows(self, **constant) -> list[dict]:
        columns = dict(zip(ATTRIBUTES, self.ratings[:TRAIN].T.tolist()))
        columns |= {name: [value] * TRAIN for name, value in constant.items()}
        return [
            {"text": text, **{name: columns[name][i] for name in ATTRIBUTES}}
            for i, text in enumerate(self.texts[:TRAIN])
        ]

    @torch.no_grad()
    def predict(self, model) -> tuple[np.ndarray, np.ndarray]:
        """Means and stds of the held-out texts, (N, 2)."""
        ids = tiny_tokenizer()(self.texts[TRAIN:], add_special_tokens=False)["input_ids"]
        output = model(**pad_rows(ids))
        return output.attribute_means.numpy(), output.attribute_stds.numpy()

    @property
    def held_out(self) -> slice:
        return slice(TRAIN, None)


@pytest.fixture(scope="module")
def truth() -> Truth:
    return Truth()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("features")


def trained(truth: Truth, cache, loss_type: str, rows: list[dict] | None = None, **config):
    """The trainer after training a copy of the model with this loss."""
    kwargs = {"loss_type": loss_type, "cache_dir": str(cache)} | config
    trainer = attribute_trainer(cache, rows or truth.rows(), model=copy.deepcopy(truth.model), **TRAINING | kwargs)
    trainer.train()
    return trainer


@pytest.fixture(scope="module")
def mle(truth, cache):
    return trained(truth, cache, "mle")


@pytest.fixture(scope="module")
def regression(truth, cache):
    return trained(truth, cache, "regression")


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1])


# Maximum likelihood


@pytest.mark.parametrize("k", [0, 1])
def test_maximum_likelihood_ranks_texts_by_their_true_noise(truth, mle, k):
    stds = truth.predict(mle.model)[1]
    assert correlation(stds[:, k], truth.stds[truth.held_out, k]) >= 0.9


@pytest.mark.parametrize("k", [0, 1])
def test_maximum_likelihood_finds_the_scale_of_the_noise(truth, mle, k):
    stds = truth.predict(mle.model)[1]
    assert stds[:, k].mean() == pytest.approx(truth.stds[truth.held_out, k].mean(), rel=0.1)


def test_maximum_likelihood_is_calibrated_on_held_out_ratings(truth, mle):
    means, stds = truth.predict(mle.model)
    z = (truth.ratings[truth.held_out] - means) / stds
    assert (np.abs(z) <= 1).mean() == pytest.approx(0.683, abs=0.04)
    assert (np.abs(z) <= 1.96).mean() == pytest.approx(0.95, abs=0.02)


# Reparameterised regression, Eq. 9


def test_regression_learns_the_means_as_well(truth, regression):
    means = truth.predict(regression.model)[0]
    assert correlation(means[:, 0], truth.means[truth.held_out, 0]) > 0.95


def test_regression_drives_sigma_to_nothing(truth, regression, mle):
    ratio = truth.predict(regression.model)[1].mean() / truth.predict(mle.model)[1].mean()
    assert ratio < 0.1


def test_regression_s_sigma_falls_from_log_to_log(regression):
    stds = np.array(logged(regression, "mean_std"))
    assert len(stds) >= 8
    assert (stds[1:] < 1.05 * stds[:-1]).all() and stds[-1] < 0.2 * stds[0]


def test_the_deterministic_loss_leaves_sigma_as_it_was(truth, cache):
    trainer = trained(truth, cache, "deterministic")
    before, after = truth.model.score.value.weight, trainer.model.score.value.weight
    assert after[2:].equal(before[2:])
    assert not after[:2].equal(before[:2])


# Bradley-Terry with a sampled reward


def bradley_terry(truth: Truth) -> torch.nn.Module:
    """A fresh head whose reward mu + alpha sigma is trained on pairs that are labelled by their noisy ratings."""
    torch.manual_seed(0)
    model = tiny_urm(attributes=["help"])
    model.score.reset_parameters()
    features = torch.from_numpy(truth.features)
    ratings, rng = truth.ratings[:, 0], np.random.default_rng(1)
    optimizer = torch.optim.Adam(model.score.value.parameters(), lr=1e-2)
    for _ in range(600):
        first, second = rng.integers(0, TRAIN, (2, 256))
        swap = ratings[first] < ratings[second]
        chosen, rejected = np.where(swap, second, first), np.where(swap, first, second)
        output = model(pooled_hidden=features[np.concatenate([chosen, rejected])])
        reward = output.attribute_means + torch.randn(512, 1) * output.attribute_stds
        loss = -F.logsigmoid(reward[:256] - reward[256:]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def sampled_reward(truth) -> tuple[np.ndarray, np.ndarray]:
    model = bradley_terry(truth)
    output = model(pooled_hidden=torch.from_numpy(truth.features[truth.held_out]))
    return output.attribute_means[:, 0].detach().numpy(), output.attribute_stds[:, 0].detach().numpy()


def test_pairs_teach_the_means(truth, sampled_reward):
    assert correlation(sampled_reward[0], truth.means[truth.held_out, 0]) > 0.9


def test_pairs_do_not_teach_sigma_the_noise(truth, sampled_reward, mle):
    """Section 4.1: what maximum likelihood reads from the ratings of the same texts is not in their order."""
    noise = truth.log_stds[truth.held_out, 0]
    assert abs(correlation(np.log(sampled_reward[1]), noise)) < 0.3
    assert correlation(np.log(truth.predict(mle.model)[1][:, 0]), noise) > 0.9


# A column of identical labels


@pytest.fixture(scope="module")
def constant(truth, cache):
    """Maximum likelihood where every rating of the second attribute is a 4."""
    return trained(truth, cache, "mle", truth.rows(depth=4.0), standardize_labels=True)


def test_a_constant_column_keeps_the_loss_finite(constant):
    assert np.isfinite(logged(constant, "loss")).all()


def test_a_constant_column_is_predicted_with_sigma_at_its_floor(truth, constant):
    """log sigma bends at -4 and cannot pass -5, in units of a label spread that is 1 for a constant column."""
    means, stds = truth.predict(constant.model)
    assert means[:, 1] == pytest.approx(4, abs=0.1)
    assert np.exp(-5) < stds[:, 1].min() and np.median(stds[:, 1]) < np.exp(-3)


def test_a_constant_column_does_not_disturb_the_other_attribute(truth, constant, mle):
    noise = truth.stds[truth.held_out, 0]
    stds = truth.predict(constant.model)[1][:, 0]
    assert correlation(stds, noise) >= 0.9
    assert stds.mean() == pytest.approx(noise.mean(), rel=0.1)


# Standardised features


def test_noise_that_is_the_same_everywhere_is_found_on_standardised_features(truth, cache):
    """sigma = exp(W h) has no bias: the features' common offset must stand in for it without adding noise."""
    rng, same = np.random.default_rng(7), copy.copy(truth)
    same.ratings = rng.normal(truth.means, 0.6)
    kwargs = {"standardize_labels": True, "standardize_features": True}
    stds = truth.predict(trained(same, cache, "mle", **kwargs).model)[1]
    assert stds.mean(0) == pytest.approx([0.6, 0.6], rel=0.1)
    assert np.log(stds).std(0).max() < 0.15
