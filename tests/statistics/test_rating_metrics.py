"""Metrics of predicted rating distributions against scipy, sklearn and closed forms."""

import math
import warnings

import numpy as np
import pytest
from scipy import stats
from scipy.integrate import trapezoid
from sklearn.metrics import mean_squared_error

from urm_hf.statistics.rating_metrics import attribute_metrics, gaussian_crps, scales_tensor

NAMES = ["help", "depth"]
LABEL_MEANS, LABEL_STDS = [2.0, 1.5], [0.8, 2.0]
SCALES = {"help": [0, 4, 1]}


def example(rows: int = 60, annotators: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Means, stds (N, 2) and whole-number ratings (N, 2, R) that depend on them, a tenth of them missing."""
    rng = np.random.default_rng(seed)
    means, stds = rng.normal(2, 1, (rows, 2)), rng.uniform(0.4, 1.5, (rows, 2))
    ratings = np.clip(np.round(means[..., None] + rng.normal(size=(rows, 2, annotators)) * 1.2), 0, 4)
    ratings[rng.random(ratings.shape) < 0.1] = np.nan
    return means, stds, ratings


def metrics(means, stds, ratings, label_means=LABEL_MEANS, label_stds=LABEL_STDS, scales=None) -> dict[str, float]:
    return attribute_metrics(means, stds, ratings, NAMES, label_means, label_stds, scales)


def rated(k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rating, mean and std of each rating of attribute k."""
    means, stds, ratings = example()
    row, annotator = np.nonzero(~np.isnan(ratings[:, k]))
    return ratings[row, k, annotator], means[row, k], stds[row, k]


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_mse_is_that_of_sklearn_in_units_of_the_label_spread(k, name):
    s, mu, _ = rated(k)
    expected = mean_squared_error(s, mu) / LABEL_STDS[k] ** 2
    assert metrics(*example())[f"mse/{name}"] == pytest.approx(expected)


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_nll_is_that_of_scipy_less_the_log_of_the_label_spread(k, name):
    s, mu, sigma = rated(k)
    expected = -stats.norm.logpdf(s, mu, sigma).mean() - math.log(LABEL_STDS[k])
    assert metrics(*example())[f"nll/{name}"] == pytest.approx(expected)


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_crps_is_the_integral_of_its_definition_in_units_of_the_label_spread(k, name):
    """Of (F(x) - 1{x >= s})^2 over x, by the trapezoid rule."""
    s, mu, sigma = (values[:40, None] for values in rated(k))
    x = np.linspace(-12, 16, 20_001)
    expected = trapezoid(np.square(stats.norm.cdf(x, mu, sigma) - (x >= s)), x, axis=1).mean()
    found = gaussian_crps((s - mu).ravel(), sigma.ravel()).mean()
    assert found == pytest.approx(expected, abs=1e-3)
    whole = gaussian_crps(rated(k)[0] - rated(k)[1], rated(k)[2]).mean()
    assert metrics(*example())[f"crps/{name}"] == pytest.approx(whole / LABEL_STDS[k])


def test_censored_nll_is_that_of_the_rating_s_interval_whatever_the_label_units():
    s, mu, sigma = rated(0)
    upper, lower = np.where(s == 4, np.inf, s + 0.5), np.where(s == 0, -np.inf, s - 0.5)
    expected = -np.log(stats.norm.cdf(upper, mu, sigma) - stats.norm.cdf(lower, mu, sigma)).mean()
    assert metrics(*example(), scales=SCALES)["censored_nll/help"] == pytest.approx(expected)


def test_without_a_scale_there_is_no_censored_nll():
    result = metrics(*example(), scales=SCALES)
    assert "censored_nll/depth" not in result
    assert result["censored_nll"] == result["censored_nll/help"]


@pytest.mark.parametrize("name, function", [("pearson", stats.pearsonr), ("spearman", stats.spearmanr)])
@pytest.mark.parametrize("k, attribute", list(enumerate(NAMES)))
def test_correlations_are_of_the_mean_rating_of_each_row(k, attribute, name, function):
    means, _, ratings = example()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # rows without any rating
        observed = np.nanmean(ratings[:, k], axis=1)
    rows = ~np.isnan(observed)
    expected = function(means[rows, k], observed[rows])[0]
    assert metrics(*example())[f"{name}/{attribute}"] == pytest.approx(expected)


@pytest.mark.parametrize("label_mean, label_std", [(2.0, 0.8), (2.8604, 1.2651)])
def test_rows_of_equal_mean_rating_are_ties_in_spearman_whatever_the_label_units(label_mean, label_std):
    """[1, 3] and [2, 2] tie; in standardised units their means may differ in the last bit."""
    means, stds, ratings = example(rows=400, annotators=2)
    ratings[np.isnan(ratings)] = 2.0
    expected = stats.spearmanr(means[:, 0], ratings[:, 0].mean(-1))[0]
    result = metrics(means, stds, ratings, [label_mean, 0.0], [label_std, 1.0])
    assert result["spearman/help"] == pytest.approx(expected, abs=1e-9)


def test_spread_pearson_compares_the_predicted_variance_with_that_of_the_annotators():
    means, stds, ratings = example()
    rows = (~np.isnan(ratings[:, 0])).sum(1) > 1
    observed = [np.var(row[~np.isnan(row)], ddof=1) for row in ratings[rows, 0]]
    expected = stats.pearsonr(stds[rows, 0] ** 2, observed)[0]
    assert metrics(*example())["spread_pearson/help"] == pytest.approx(expected)


@pytest.mark.parametrize("k, name", list(enumerate(NAMES)))
def test_mean_std_is_on_the_scale_of_the_ratings(k, name):
    assert metrics(*example())[f"mean_std/{name}"] == pytest.approx(example()[1][:, k].mean())


@pytest.mark.parametrize("name", ["nll", "mse", "pearson", "spearman", "coverage68", "residual_variance", "mean_std"])
def test_a_bare_name_is_the_average_over_attributes(name):
    result = metrics(*example())
    assert result[name] == pytest.approx((result[f"{name}/help"] + result[f"{name}/depth"]) / 2)


def test_perfect_means_have_no_error_and_full_correlation():
    rng = np.random.default_rng(0)
    ratings = rng.integers(0, 5, (50, 2, 1)).astype(float)
    result = metrics(ratings[..., 0], np.full((50, 2), 0.5), ratings)
    names = ["mse", "pearson", "spearman", "residual_variance", "coverage68", "coverage95"]
    assert [result[name] for name in names] == pytest.approx([0, 1, 1, 0, 1, 1])


@pytest.fixture(scope="module")
def gaussian() -> dict[str, float]:
    """Metrics of predictions that are the truth: ratings are drawn from them, 200000 of each attribute."""
    rng = np.random.default_rng(0)
    means, stds = rng.normal(2, 1, (200_000, 2)), rng.uniform(0.2, 2, (200_000, 2))
    return metrics(means, stds, rng.normal(means, stds)[..., None])


@pytest.mark.parametrize(
    "name, expected", [("coverage50", 0.5), ("coverage68", 0.6827), ("coverage95", 0.95), ("residual_variance", 1)]
)
def test_true_gaussians_are_calibrated(gaussian, name, expected):
    assert gaussian[name] == pytest.approx(expected, abs=0.01)


def test_too_small_stds_show_in_coverage_and_residual_variance():
    rng = np.random.default_rng(0)
    means, stds = np.zeros((20_000, 2)), np.ones((20_000, 2))
    result = metrics(means, stds / 2, rng.normal(means, stds)[..., None])
    assert result["coverage68"] == pytest.approx(2 * stats.norm.cdf(0.5) - 1, abs=0.02)
    assert result["residual_variance"] == pytest.approx(4, abs=0.2)


def test_the_constant_predictor_has_the_entropy_of_a_standard_gaussian():
    """Predicting the mean and spread of the ratings, NLL = 1/2 log(2 pi e) and MSE = 1 in standardised units."""
    ratings = example()[2]
    label_means, label_stds = np.nanmean(ratings, axis=(0, 2)), np.nanstd(ratings, axis=(0, 2))
    constant = [np.broadcast_to(values, (len(ratings), 2)) for values in (label_means, label_stds)]
    result = metrics(*constant, ratings, label_means, label_stds)
    assert [result["nll"], result["mse"]] == pytest.approx([0.5 * math.log(2 * math.pi * math.e), 1])


def test_a_constant_predictor_has_no_correlation():
    result = metrics(np.full((60, 2), 2.0), np.ones((60, 2)), example()[2])
    assert math.isnan(result["pearson"]) and math.isnan(result["spearman"])


@pytest.mark.parametrize("factor, shift", [(25.0, 0.0), (0.01, 3.0)])
def test_another_rating_scale_changes_no_standardised_metric(factor, shift):
    means, stds, ratings = example()
    plain = metrics(means, stds, ratings, scales=SCALES)
    label_means, label_stds = np.array(LABEL_MEANS) * factor + shift, np.array(LABEL_STDS) * factor
    scale = {"help": [shift, 4 * factor + shift, factor]}
    scaled = metrics(
        means * factor + shift, stds * factor, ratings * factor + shift, label_means, label_stds, scales=scale
    )
    in_units = {name: value for name, value in plain.items() if not name.startswith("mean_std")}
    assert {name: scaled[name] for name in in_units} == pytest.approx(in_units)
    assert scaled["mean_std"] == pytest.approx(plain["mean_std"] * factor)


def test_missing_ratings_are_as_if_they_were_not_there():
    means, stds, ratings = example(annotators=1)
    given = ~np.isnan(ratings[:, :, 0])
    assert 0 < given[:, 0].sum() < len(given)
    shorter = metrics(means[given[:, 0]], stds[given[:, 0]], ratings[given[:, 0]])
    result = metrics(means, stds, ratings)
    for name in ("nll", "mse", "pearson", "spearman", "residual_variance", "coverage68", "coverage95"):
        assert result[f"{name}/help"] == pytest.approx(shorter[f"{name}/help"])


def test_an_attribute_without_ratings_does_not_count_in_the_average():
    means, stds, ratings = example()
    ratings[:, 1] = np.nan
    result = metrics(means, stds, ratings)
    assert [result[name] for name in ("nll", "mse")] == [result[f"{name}/help"] for name in ("nll", "mse")]


def test_float32_predictions_give_the_metrics_of_float64():
    means, stds, ratings = example()
    low = metrics(*(array.astype(np.float32) for array in (means, stds, ratings)), scales=SCALES)
    assert low == pytest.approx(metrics(means, stds, ratings, scales=SCALES), rel=1e-4)


def test_scales_are_standardised_like_the_ratings():
    scales = scales_tensor({"help": [0, 4, 1]}, NAMES, LABEL_MEANS, LABEL_STDS)
    assert scales[0].tolist() == pytest.approx([-2.5, 2.5, 1.25])
    assert scales[1].isnan().all()


def test_a_scale_without_a_step_is_continuous():
    assert scales_tensor({"depth": [0, 4]}, NAMES, LABEL_MEANS, LABEL_STDS)[1, 2] == 0
