"""The closed-form posterior against dense algebra and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import norm, sem
from sklearn.linear_model import BayesianRidge

from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.posterior import (
    LEAST_NOISE,
    LEAST_SIGNAL,
    RANK_OF_MATRICES,
    choose_shares,
    fit_batches,
    fit_posterior,
    measure_noise,
)

N, H, ATTRIBUTES = 300, 12, 3


def make_rows(seed: int = 0, ratings: int = 1, mean: float = 5.0) -> tuple[np.ndarray, np.ndarray]:
    """Hidden states of unequal spread and correlated features; ratings (N, n, R) linear in them, with noise."""
    generator = np.random.default_rng(seed)
    hidden = generator.normal(size=(N, H)) @ generator.normal(size=(H, H)) + mean
    signal = hidden @ generator.normal(size=(H, ATTRIBUTES)) * [0.1, 0.3, 0.0]
    return hidden, signal[..., None] + generator.normal(size=(N, ATTRIBUTES, ratings)) * 2


def test_variances_and_means_are_those_of_sklearn():
    hidden, ratings = make_rows()
    new = np.random.default_rng(1).normal(size=(20, H)) * 3 + 5
    posterior = fit_batches([(hidden, ratings)])
    z = (hidden - hidden.mean(0)) / hidden.std(0)
    for k in range(2):  # the third has nothing to learn, where alpha is not settled
        # one rating more, as noisy as all that ratings vary by
        prior = {"alpha_1": 0.5, "alpha_2": ratings[:, k, 0].var() / 2, "lambda_1": 0, "lambda_2": 0}
        ridge = BayesianRidge(**prior, tol=1e-12, max_iter=2000)
        ridge.fit(z, ratings[:, k, 0])
        mean, std = ridge.predict((new - hidden.mean(0)) / hidden.std(0), return_std=True)
        np.testing.assert_allclose(posterior.predict(new)[:, k], mean, rtol=1e-5)
        np.testing.assert_allclose(posterior.noise[k], 1 / ridge.alpha_, rtol=1e-5)
        found = posterior.epistemic(new)[:, k] + posterior.noise[k] - posterior.intercept[k]
        np.testing.assert_allclose(found, std**2, rtol=1e-5)


def test_the_variance_is_that_of_the_dense_inverse():
    hidden, ratings = make_rows()
    posterior = fit_batches([(hidden, ratings)])
    z = (hidden - posterior.center) / posterior.scale
    for k in range(ATTRIBUTES):
        inverse = np.linalg.inv(posterior.precision[k] * np.eye(H) + z.T @ z / posterior.noise[k])
        expected = np.einsum("ni,ij,nj->n", z, inverse, z) + posterior.noise[k] / N
        np.testing.assert_allclose(posterior.epistemic(hidden)[:, k], expected, rtol=1e-7)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_batches_and_their_order_change_nothing(size):
    hidden, ratings = make_rows(mean=1000.0)
    order = np.random.default_rng(2).permutation(N)
    parts = [order[start : start + size] for start in range(0, N, size)]
    whole, pieces = fit_batches([(hidden, ratings)]), fit_batches([(hidden[part], ratings[part]) for part in parts])
    np.testing.assert_allclose(pieces.epistemic(hidden), whole.epistemic(hidden), rtol=1e-5)
    np.testing.assert_allclose(pieces.predict(hidden), whole.predict(hidden), rtol=1e-5)


def test_several_ratings_of_a_row_are_as_many_rows():
    hidden, ratings = make_rows(ratings=3)
    repeated = np.repeat(hidden, 3, axis=0), ratings.transpose(0, 2, 1).reshape(3 * N, ATTRIBUTES, 1)
    together, apart = fit_batches([(hidden, ratings)]), fit_batches([repeated])
    np.testing.assert_allclose(together.epistemic(hidden), apart.epistemic(hidden), rtol=1e-6)


def test_a_row_of_weight_three_is_three_rows():
    """But that it holds one rating: what the noise is estimated from is their number, as in weighted least squares."""
    hidden, ratings = make_rows()
    weights = np.where(np.arange(N) % 2, 3.0, 1.0)
    weighted = fit_posterior(Moments(H, ATTRIBUTES).add(hidden, ratings, weights))
    z = (hidden - weighted.center) / weighted.scale
    for k in range(ATTRIBUTES):
        noise = weighted.noise[k] / (1 / weights).mean()  # of a row of weight 1
        precision = np.diag(weights / noise)
        inverse = np.linalg.inv(weighted.precision[k] * np.eye(H) + z.T @ precision @ z)
        expected = np.einsum("ni,ij,nj->n", z, inverse, z) + noise / weights.sum()
        np.testing.assert_allclose(weighted.epistemic(hidden)[:, k], expected, rtol=1e-7)
        mean = np.average(ratings[:, k, 0], weights=weights)
        np.testing.assert_allclose(
            weighted.predict(hidden)[:, k], mean + z @ inverse @ z.T @ precision @ (ratings[:, k, 0] - mean), rtol=1e-6
        )


def test_the_scale_of_weights_changes_nothing():
    hidden, ratings = make_rows()
    weights = np.random.default_rng(3).uniform(0.5, 2, N)
    one, ten = (fit_posterior(Moments(H, ATTRIBUTES).add(hidden, ratings, weights * c)) for c in (1, 10))
    np.testing.assert_allclose(ten.epistemic(hidden), one.epistemic(hidden), rtol=1e-5)
    np.testing.assert_allclose(ten.predict(hidden), one.predict(hidden), rtol=1e-5)
    np.testing.assert_allclose(ten.predictive_stds(hidden), one.predictive_stds(hidden), rtol=1e-5)


@pytest.mark.parametrize("far", [1, 30])
def test_a_predictive_std_is_that_of_ratings_whatever_the_weights_unit(far):
    """Near to what was rated it is the noise, on average over rows; far from it, what is not known."""
    generator = np.random.default_rng(4)
    ratios = []
    for _ in range(100):
        hidden, truth = generator.normal(size=(N, H)), generator.normal(size=(H, 1))
        stds = np.exp(generator.normal(size=N) * 0.5)
        ratings = (hidden @ truth + stds[:, None] * generator.normal(size=(N, 1)))[..., None]
        posterior = fit_posterior(Moments(H, 1).add(hidden, ratings, 0.01 / stds**2))
        new = far * generator.normal(size=(N, H))
        found = new @ truth + stds[:, None] * generator.normal(size=(N, 1))
        ratios.append(
            np.square(found - posterior.predict(new)).mean() / np.square(posterior.predictive_stds(new)).mean()
        )
    assert abs(np.mean(ratios) - 1) < 5 * np.std(ratios) / len(ratios) ** 0.5 and np.std(ratios) < 1


def test_weights_by_the_true_noise_predict_better():
    """Rows whose ratings are ten times as noisy: who counts them less is nearer to the truth."""
    generator, errors = np.random.default_rng(4), {"even": [], "weighted": []}
    for _ in range(20):
        hidden, truth = generator.normal(size=(N, H)), generator.normal(size=(H, 1))
        stds = np.where(np.arange(N) % 2, 10.0, 1.0)
        ratings = (hidden @ truth + stds[:, None] * generator.normal(size=(N, 1)))[..., None]
        for name, weights in (("even", None), ("weighted", 1 / stds**2)):
            found = fit_posterior(Moments(H, 1).add(hidden, ratings, weights)).predict(hidden)
            errors[name].append(np.square(found - hidden @ truth).mean())
    assert np.mean(errors["weighted"]) < 0.3 * np.mean(errors["even"])


@pytest.mark.parametrize("holes", [False, True])
def test_parts_add_up_from_whatever_origin(holes):
    hidden, ratings = make_rows(mean=1000.0)
    if holes:
        ratings[np.random.default_rng(5).random((N, ATTRIBUTES)) < [0.5, 0.0, 0.9]] = np.nan
        ratings[np.argsort(hidden[:, 0])[: N // 2], 1] = np.nan  # a part without any
    weights = np.random.default_rng(3).uniform(0.5, 2, N)
    order = np.argsort(hidden[:, 0])  # so that the parts' origins are far apart
    parts = [Moments(H, ATTRIBUTES).add(hidden[i], ratings[i], weights[i]) for i in np.array_split(order, 3)]
    total = parts[0] + parts[1] + Moments(H, ATTRIBUTES) + parts[2]
    before = parts[0].ratings.copy()
    (parts[0] + Moments(H, ATTRIBUTES)).add(hidden, ratings)  # a sum is a thing of its own
    np.testing.assert_array_equal(parts[0].ratings, before)
    whole = fit_posterior(Moments(H, ATTRIBUTES).add(hidden, ratings, weights))
    np.testing.assert_allclose(fit_posterior(total).epistemic(hidden), whole.epistemic(hidden), rtol=1e-5)
    np.testing.assert_allclose(fit_posterior(total).predict(hidden), whole.predict(hidden), rtol=1e-5)


def test_an_attribute_that_hidden_states_say_nothing_of_is_not_known_everywhere():
    """Evidence alone would give it no variance, also of states that are far from all that was rated."""
    hidden, _ = make_rows()
    noise = np.random.default_rng(5).normal(size=(N, 1, 2))
    posterior = fit_batches([(hidden, noise)])
    z = (hidden - posterior.center) / posterior.scale
    prior = np.square(z).sum(-1).mean() / posterior.precision[0]
    assert prior >= 0.999 * LEAST_SIGNAL * posterior.noise[0]
    far = posterior.center + 100 * (hidden - posterior.center)
    assert (posterior.epistemic(far) > 10 * posterior.intercept).all()


def test_rows_without_ratings_are_left_out_and_fewer_ratings_leave_more_open():
    hidden, ratings = make_rows()
    more = np.concatenate([hidden, hidden + 100]), np.concatenate([ratings, np.full_like(ratings, np.nan)])
    np.testing.assert_allclose(
        fit_batches([more]).epistemic(hidden), fit_batches([(hidden, ratings)]).epistemic(hidden), rtol=1e-7
    )
    half = ratings.copy()
    half[::2, 0] = np.nan
    assert (fit_batches([(hidden, half)]).intercept > fit_batches([(hidden, ratings)]).intercept)[0]


def test_an_attribute_that_other_rows_rate_has_moments_of_its_own():
    """As if it had been fitted alone: its means, and the variance of each."""
    hidden, ratings = make_rows()
    ratings[: N // 2, 0] = np.nan
    ratings[::3, 1] = np.nan
    together = fit_batches([(hidden[i], ratings[i]) for i in np.array_split(np.arange(N), 7)])
    z = (hidden - together.center) / together.scale
    for k in range(2):  # the third has nothing to learn, where alpha is not settled
        mine = np.isfinite(ratings[:, k, 0])
        alone = BayesianRidge(alpha_1=0.5, alpha_2=np.nanvar(ratings[:, k]) / 2, lambda_1=0, lambda_2=0, tol=1e-12)
        alone.fit(z[mine], ratings[mine, k, 0])
        np.testing.assert_allclose(together.predict(hidden)[:, k], alone.predict(z), rtol=1e-5)
        np.testing.assert_allclose(together.noise[k], 1 / alone.alpha_, rtol=1e-5)
        np.testing.assert_allclose(together.offsets[k] @ together.basis.T, z[mine].mean(0), atol=1e-9)
        np.testing.assert_allclose(
            together.variances[k], together.basis.T @ alone.sigma_ @ together.basis, rtol=1e-4, atol=1e-9
        )
        around = z - z[mine].mean(0)
        exact = np.einsum("ni,ij,nj->n", around, alone.sigma_, around) + together.intercept[k]
        np.testing.assert_allclose(together.epistemic(hidden)[:, k], exact, rtol=1e-5)


def test_of_two_kinds_of_text_each_attribute_knows_its_own():
    """Rated on one kind alone, which varies in other directions than the other does."""
    generator, first = np.random.default_rng(0), np.arange(2000) < 1000
    hidden = generator.normal(size=(2000, 40))
    hidden[first, 20:] *= 0.05
    hidden[~first, :20] *= 0.05
    turned = hidden @ np.linalg.qr(generator.normal(size=(40, 40)))[0]
    ratings = turned @ generator.normal(size=(40, 2)) + generator.normal(size=(2000, 2))
    ratings[~first, 0] = np.nan
    ratings[first, 1] = np.nan
    posterior = fit_batches([(turned, ratings[..., None])])
    unknown = posterior.epistemic(turned)
    for k, own in enumerate((first, ~first)):
        assert unknown[~own, k].min() > 3 * unknown[own, k].max()


def test_where_s_is_a_matrix_fewer_directions_are_kept():
    generator = np.random.default_rng(0)
    hidden = generator.normal(size=(400, 300))
    ratings = generator.normal(size=(400, 2, 1))
    assert fit_batches([(hidden, ratings)]).rank == 300
    ratings[:5, 0] = np.nan
    posterior = fit_batches([(hidden, ratings)])
    assert posterior.rank == RANK_OF_MATRICES and posterior.variances.shape == (2, 256, 256)
    assert (posterior.rest > 0).all()


@pytest.mark.parametrize("rated", [4, 30, 100])
@pytest.mark.parametrize("hidden_size", [64, 200])
def test_a_seldom_rated_attribute_is_not_taken_for_known(rated, hidden_size):
    """What is claimed of new rows is what the means are wrong by, on average over draws of the truth."""
    errors, claims = [], []
    for seed in range(20):
        generator = np.random.default_rng(seed)
        hidden, new = generator.normal(size=(2, 500, hidden_size)) / np.sqrt(np.arange(1, hidden_size + 1))
        truth = generator.normal(size=(hidden_size, 2)) / 2
        ratings = hidden @ truth + generator.normal(size=(500, 2))
        ratings[generator.permutation(500)[rated:], 0] = np.nan
        posterior = fit_batches([(hidden, ratings[..., None])])
        errors.append(np.square(posterior.predict(new) - new @ truth).mean(0))
        claims.append(posterior.epistemic(new).mean(0))
        assert posterior.noise[0] > np.nanvar(ratings[:, 0]) / (rated + 1) / 2
    ratio = np.mean(errors, 0) / np.mean(claims, 0)
    assert (ratio > 0.5).all() and (ratio < 2).all()


def test_where_only_some_texts_are_rated_the_others_are_less_known():
    """Of two topics one is rated: means and variances are around its centre, not that of all rows."""
    generator, known = np.random.default_rng(0), np.arange(N) < N // 2
    hidden = generator.normal(size=(N, H)) + np.where(known, 5.0, -5.0)[:, None]
    ratings = hidden @ generator.normal(size=(H, 2)) + generator.normal(size=(N, 2))
    ratings[~known, 0] = np.nan
    posterior = fit_batches([(hidden, ratings[..., None])])
    unknown = posterior.epistemic(hidden)
    assert unknown[~known, 0].mean() > 3 * unknown[known, 0].mean()
    assert unknown[~known, 1].mean() < 2 * unknown[known, 1].mean()


def test_what_lies_outside_of_the_basis_is_never_known():
    """Features that never varied together: the span of a few directions must not call the others familiar."""
    hidden, ratings = make_rows()
    whole, part = fit_batches([(hidden, ratings)]), fit_batches([(hidden, ratings)], rank=4)
    assert part.rank == 4 and (part.rest > 0).all()
    away = part.center + part.scale * np.linalg.svd(part.basis.T)[2][-1] * 50  # orthogonal to the basis
    assert (part.epistemic(away[None]) > 100 * part.epistemic(part.center[None]))[:, :2].all()
    # the rest counts with the mean eigenvalue: on average over what was rated both say the same
    ratio = part.epistemic(hidden).mean(0) / whole.epistemic(hidden).mean(0)
    assert (np.abs(ratio - 1) < 0.2).all()


def test_unfamiliar_states_are_less_known():
    hidden, ratings = make_rows()
    posterior = fit_batches([(hidden, ratings)])
    far = posterior.center + 10 * (hidden - posterior.center)
    assert (posterior.epistemic(far) > posterior.epistemic(hidden)).all()
    more = [(hidden, ratings)] * 4
    assert (fit_batches(more).epistemic(hidden)[:, :2] < posterior.epistemic(hidden)[:, :2]).all()


def test_large_ratings_that_hardly_vary_are_as_good_as_small_ones():
    hidden, ratings = make_rows()
    near, far = fit_batches([(hidden, ratings)]), fit_batches([(hidden, ratings + 1e9)])
    np.testing.assert_allclose(far.predictive_stds(hidden), near.predictive_stds(hidden), rtol=1e-4)
    np.testing.assert_allclose(far.predict(hidden) - 1e9, near.predict(hidden), atol=1e-3)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda hidden, ratings: hidden.__setitem__((3, 0), np.nan), "hidden state of row 3 .* not finite"),
        (lambda hidden, ratings: ratings.__setitem__((3, 0, 0), np.inf), "a rating of row 3 .* not finite"),
        (lambda hidden, ratings: hidden.__setitem__(np.s_[:], 0.1), "hidden states of all rated rows are alike"),
        (lambda hidden, ratings: ratings.__setitem__(np.s_[1:, 1], np.nan), "attribute 1 has 1 ratings"),
        (lambda hidden, ratings: ratings.__setitem__(np.s_[:, 2], 3.0), "attribute 2 are all alike"),
        (lambda hidden, ratings: ratings.__setitem__(np.s_[:, 2], 1e6 / 3), "attribute 2 are all alike"),
    ],
)
def test_what_cannot_be_fitted_is_told(spoil, message):
    hidden, ratings = make_rows()
    spoil(hidden, ratings)
    with pytest.raises(ValueError, match=message):
        fit_posterior(Moments(H, ATTRIBUTES).add(hidden, ratings))


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_told(weight):
    hidden, ratings = make_rows()
    weights = np.ones(N)
    weights[5] = weight
    with pytest.raises(ValueError, match="weight of row 5 .* not finite and above 0"):
        Moments(H, ATTRIBUTES).add(hidden, ratings, weights)


def test_noise_is_what_residuals_leave_beside_what_is_not_known():
    generator = np.random.default_rng(0)
    means, unknown = generator.normal(size=(4000, 2)), np.full((4000, 2), [0.5, 2.0])
    ratings = (means + generator.normal(size=means.shape) * np.sqrt(unknown))[..., None]
    ratings = ratings + generator.normal(size=(4000, 2, 3)) * [[1.5], [0.1]]
    ratings[generator.random(ratings.shape) < 0.3] = np.nan
    np.testing.assert_allclose(measure_noise(means, unknown, ratings)[0], 1.5**2, rtol=0.05)
    # never less than a hundredth of all that there is, nor below zero where more is unknown than residuals show
    squares = np.nanmean((ratings - means[..., None]) ** 2, axis=(0, 2))
    np.testing.assert_allclose(measure_noise(means, 10 * unknown, ratings), LEAST_NOISE * squares)


def test_the_share_is_that_of_the_best_likelihood_of_each_attribute():
    generator = np.random.default_rng(1)
    truth = generator.normal(size=(500, 2))
    ratings = (truth + generator.normal(size=truth.shape))[..., None]
    right, wrong = truth, np.zeros_like(truth)
    nothing = np.full(truth.shape, 1e-3)
    mixed = np.stack([right[:, 0], wrong[:, 1]], -1), np.stack([wrong[:, 0], right[:, 1]], -1)
    shares, noise = choose_shares({1.0: (mixed[0], nothing), 0.25: (mixed[1], nothing)}, ratings)
    np.testing.assert_array_equal(shares, [1.0, 0.25])
    np.testing.assert_allclose(noise, np.square(ratings[..., 0] - truth).mean(0) - 1e-3)


def test_a_smaller_share_takes_more_evidence_than_rows_of_one_prompt_give():
    """The means of a smaller share are a little better, which 40 prompts cannot show and 16,000 can."""
    generator = np.random.default_rng(3)
    truth, noise, aside = generator.normal(size=(3, 40, 1))
    aside -= noise * (aside * noise).sum() / (noise**2).sum()  # wrong by as much on either side of the ratings
    ratings, worse = truth + noise, truth + 0.15 * aside

    def choose(copies, prompts=None):
        whole, part, rated = (np.tile(column, (copies, 1)) for column in (worse, truth, ratings))
        nothing = np.full(whole.shape, 1e-3)
        (share,), _ = choose_shares({0.25: (part, nothing), 1.0: (whole, nothing)}, rated[..., None], prompts)
        return share

    assert (choose(1), choose(400)) == (1.0, 0.25)
    assert choose(400, list(range(40)) * 400) == 1.0  # of the same 40 prompts nothing more is known
    assert choose(400, ["one"] * 40 * 400) == 0.25  # of one prompt alone: each row is taken for its own


def test_the_standard_error_of_shares_is_that_of_means_over_prompts():
    """Prompts of equally many ratings: scipy's standard error of their means, 1 of which is allowed."""
    generator = np.random.default_rng(4)
    ratings = generator.normal(size=(60, 1, 2))
    prompts = np.repeat(np.arange(20), 3)
    means, unknown = generator.normal(size=(60, 1)) * 0.3, generator.uniform(0.1, 0.5, size=(60, 1))
    for shift in np.linspace(0, 0.6, 25):
        predictions = {1.0: (means + shift, unknown), 0.5: (means, unknown)}
        losses = []
        for mean, variance in predictions.values():
            spread = np.sqrt(measure_noise(mean, variance, ratings) + variance)[..., None]
            losses.append(-2 * norm.logpdf(ratings, mean[..., None], spread).reshape(20, 6).mean(1))
        worse = losses[0] - losses[1]
        (share,), _ = choose_shares(predictions, ratings, list(prompts))
        assert share == (1.0 if worse.mean() <= sem(worse) else 0.5)


@pytest.mark.parametrize("share", [0.5, np.array([1.0, 0.25, 0.1])])
def test_a_share_is_as_many_ratings_fewer(share):
    """The dense posterior of Z'Z, Z'y and N, each times the share."""
    hidden, ratings = make_rows()
    posterior = fit_posterior(Moments(H, ATTRIBUTES).add(hidden, ratings), share=share)
    z, shares = (hidden - posterior.center) / posterior.scale, np.broadcast_to(share, ATTRIBUTES)
    for k in range(ATTRIBUTES):
        prior = posterior.precision[k] * np.eye(H)
        inverse = np.linalg.inv(prior + shares[k] * z.T @ z / posterior.noise[k])
        expected = np.einsum("ni,ij,nj->n", z, inverse, z) + posterior.noise[k] / (shares[k] * N)
        np.testing.assert_allclose(posterior.epistemic(hidden)[:, k], expected, rtol=1e-7)
        mean = ratings[:, k, 0].mean()
        found = mean + z @ inverse @ z.T @ (ratings[:, k, 0] - mean) * shares[k] / posterior.noise[k]
        np.testing.assert_allclose(posterior.predict(hidden)[:, k], found, rtol=1e-6)
