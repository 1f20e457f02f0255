"""The joint posterior of a pair against draws of the regression, and what may go wrong with its input."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import norm

from tests.helpers.posteriors import with_posterior
from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.modeling import URMEnsembleConfig
from urm_hf.uncertainty.margins import compute_joint_probability, margin_epistemic_std

A = ["A river.", "A text of some length, and more.", "x", "Four."]
B = ["A river!", "Something else, of another kind.", "x", "Five is what it is."]


def score_sides(rank: int | None = None, unrated: int = 0):
    model, posterior = with_posterior(rank=rank, unrated=unrated)
    scorer = RewardScorer(model, tiny_tokenizer())
    a, b = (scorer.score(side, return_posterior_features=True) for side in (A, B))
    return model, posterior, a, b


def pooled(model, texts) -> np.ndarray:
    with torch.no_grad():
        rows = [torch.tensor([tiny_tokenizer()(text)["input_ids"]]) for text in texts]
        return np.concatenate(
            [model(input_ids=row, attention_mask=torch.ones_like(row)).pooled_hidden for row in rows]
        )


@pytest.mark.parametrize("unrated", [0, 15])
def test_it_is_the_spread_of_margins_over_draws_of_the_regression(unrated):
    model, posterior, a, b = score_sides(unrated=unrated)
    generator = np.random.default_rng(0)
    z_a, z_b = ((pooled(model, side) - posterior.center) / posterior.scale @ posterior.basis for side in (A, B))
    draws = 20_000
    margins = np.zeros((draws, len(A)))
    for k, name in enumerate(model.config.attributes):
        covariance = posterior.variances[k] if unrated else np.diag(posterior.variances[k])
        m = generator.multivariate_normal(np.zeros(posterior.rank), covariance, size=draws)
        offset = generator.normal(size=(draws, 1)) * np.sqrt(posterior.intercept[k])
        w_a, w_b = (np.array([row["gating_weights"][name] for row in rows]) for rows in (a, b))
        around = posterior.offsets[k]
        margins += w_a * (m @ (z_a - around).T + offset) - w_b * (m @ (z_b - around).T + offset)
    found = margin_epistemic_std(a, b, model.score)
    np.testing.assert_allclose(found[[0, 1, 3]], margins.std(0)[[0, 1, 3]], rtol=0.03)
    assert found[2] == 0  # equal answers have no difference that could be unknown


@pytest.mark.parametrize("rank", [None, 3])
def test_of_answers_that_share_nothing_it_is_that_of_both(rank):
    """Against an answer without features the margin varies as the reward does, but for what the mean rating adds."""
    model, posterior, a, _ = score_sides(rank)
    changed = {"posterior_features": [0.0] * (posterior.rank + 1), "attribute_epistemic_stds": None}
    nothing = [dict(row.items()) | changed for row in a]
    alone = np.array([row["reward_epistemic_std"] for row in a]) ** 2
    weights = np.array([[row["gating_weights"][name] for name in model.config.attributes] for row in a])
    expected = alone - weights**2 @ posterior.intercept
    np.testing.assert_allclose(margin_epistemic_std(a, nothing, model.score) ** 2, expected, rtol=0.01)


def test_scores_may_come_from_a_file():
    model, _, a, b = score_sides()
    rows = [json.loads(json.dumps([dict(row.items()) for row in side])) for side in (a, b)]
    np.testing.assert_allclose(margin_epistemic_std(*rows, model.score), margin_epistemic_std(a, b, model.score))
    assert len(a[0].posterior_features) == 65 and np.float16(a[0].posterior_features[3]) == a[0].posterior_features[3]
    assert margin_epistemic_std([], [], model.score).shape == (0,)


def test_the_probability_counts_noise_and_what_is_not_known():
    model, _, a, b = score_sides()
    unknown = margin_epistemic_std(a, b, model.score)
    variance = [x.reward_std**2 + y.reward_std**2 for x, y in zip(a, b)] + unknown**2
    margin = np.array([x.reward - y.reward for x, y in zip(a, b)])
    np.testing.assert_allclose(compute_joint_probability(a, b, model.score), norm.cdf(margin / np.sqrt(variance)))


def test_input_that_does_not_fit_is_told():
    model, _, a, b = score_sides()
    with pytest.raises(ValueError, match="one length, got 4 and 3"):
        margin_epistemic_std(a, b[:3], model.score)
    with pytest.raises(ValueError, match="`head` has no posterior"):
        margin_epistemic_std(a, b, tiny_urm().score)
    with pytest.raises(ValueError, match="Row 0 is of another model"):
        margin_epistemic_std(a, b, with_posterior(rank=3)[0].score)
    plain = RewardScorer(model, tiny_tokenizer()).score(B)
    with pytest.raises(ValueError, match="Row 0 has no `posterior_features`: score with `return_posterior_features"):
        margin_epistemic_std(a, plain, model.score)
    ensemble = URMEnsemble(URMEnsembleConfig(members=["a", "b"]), [tiny_urm(), tiny_urm(seed=1)])
    for unfit in (tiny_urm(), ensemble):
        with pytest.raises(ValueError, match="needs a single URM with a posterior"):
            RewardScorer(unfit, tiny_tokenizer()).score(A, return_posterior_features=True)


@pytest.mark.parametrize("unrated", [0, 15])
def test_scores_of_another_posterior_are_told(unrated):
    """Of one rank, the same attributes, and even the same model."""
    model, _, a, b = score_sides(rank=6, unrated=unrated)
    other, _, _, theirs = score_sides(rank=6, unrated=unrated + 10)
    for sides in ((a, theirs), (theirs, a)):
        with pytest.raises(ValueError, match="Row 0 is of another posterior than `head` has: .* Score both sides by"):
            margin_epistemic_std(*sides, model.score)
    with pytest.raises(ValueError, match="Row 0 is of another posterior"):
        compute_joint_probability(a, b, other.score)
    assert len(margin_epistemic_std(a, b, model.score)) == len(A)
