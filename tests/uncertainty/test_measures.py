"""Measures against closed forms on each member's own output, preferences against scipy, and what is refused."""

import json

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from transformers import LlamaForSequenceClassification

from tests.helpers.tiny import pad_rows, tiny_backbone_config, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer
from urm_hf.cli import main
from urm_hf.uncertainty.measures import (
    MEASURES,
    available,
    compute_preference_probability,
    compute_uncertainty,
    margin_gap,
    preference_probability,
    reward_interval,
)

TEXTS = ["Short.", "A text of some length, and then some more.", "x", "Of middling length", "Another one."]
SINGLE = ["attribute_variance", "covariance_norm", "aleatoric", "reward_std"]
SCALES = [0.5, 1.0, 2.0, 4.0, 100.0]


@pytest.fixture(scope="module")
def ensemble_scores(ensemble) -> list:
    return RewardScorer(ensemble, tiny_tokenizer()).score(TEXTS)


@pytest.fixture(scope="module")
def single_scores() -> list:
    return RewardScorer(tiny_urm(), tiny_tokenizer()).score(TEXTS)


@pytest.fixture(scope="module")
def scalar_scores() -> list:
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(tiny_backbone_config(num_labels=1))
    return RewardScorer(model, tiny_tokenizer()).score(TEXTS)


@torch.no_grad()
def members_alone(models) -> tuple[np.ndarray, ...]:
    """Rewards (M, N), means, stds and weights (M, N, n) of each member, one conversation at a time."""
    rows = [tiny_tokenizer()(text)["input_ids"] for text in TEXTS]
    outputs = [[model(**pad_rows([row])) for row in rows] for model in models]
    rewards = np.array([[output.logits.item() for output in member] for member in outputs])
    fields = ("attribute_means", "attribute_stds", "gating_weights")
    return rewards, *(
        np.array([[output[field][0].tolist() for output in member] for member in outputs]) for field in fields
    )


def closed_forms(models, scales=1.0) -> dict[str, list[float]]:
    """Each measure, written out with loops over members and attributes."""
    rewards, means, stds, weights = members_alone(models)
    means, scaled = means / np.array(scales), stds / np.array(scales)
    members, n = range(len(rewards)), range(means.shape[-1])
    forms: dict[str, list[float]] = {name: [] for name in MEASURES}
    for row in range(len(TEXTS)):
        s, m, r = scaled[:, row], means[:, row], rewards[:, row]
        aleatoric = sum(sum(s[i, k] ** 2 for i in members) / len(r) for k in n)
        centre = m.mean(0)
        epistemic = sum(sum((m[i, k] - centre[k]) ** 2 for i in members) / len(r) for k in n)
        forms["attribute_variance"].append(aleatoric)
        forms["aleatoric"].append(aleatoric)
        forms["epistemic"].append(epistemic)
        forms["disagreement"].append(epistemic)  # members without posteriors know nothing else
        forms["total"].append(aleatoric + epistemic)
        forms["covariance_norm"].append(max(np.linalg.norm(np.diag(s[i] ** 2), "fro") for i in members))
        forms["attribute_gap"].append(max(abs(m[i, k] - m[j, k]) for i in members for j in members for k in n))
        forms["reward_gap"].append(max(abs(r[i] - r[j]) for i in members for j in members))
        within = np.mean([sum((weights[i, row, k] * stds[i, row, k]) ** 2 for k in n) for i in members])
        between = sum((r[i] - sum(r) / len(r)) ** 2 for i in members) / len(r)
        forms["reward_epistemic"].append(between**0.5)
        forms["reward_std"].append((within + between) ** 0.5)
    return forms


def as_rows(scores) -> list[dict]:
    return json.loads(json.dumps([dict(score.items()) for score in scores]))


# Measures


@pytest.mark.parametrize("name", MEASURES)
def test_measures_of_an_ensemble_are_those_of_its_members(name, ensemble, ensemble_scores):
    expected = closed_forms([tiny_urm(seed=seed) for seed in range(3)])[name]
    with torch.no_grad():
        output = ensemble(**pad_rows([tiny_tokenizer()(text)["input_ids"] for text in TEXTS]))
    for scores in (ensemble_scores, as_rows(ensemble_scores), output):
        values = compute_uncertainty(scores, name)
        assert values.dtype == np.float64 and values.shape == (len(TEXTS),)
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SINGLE)
def test_measures_of_a_single_model(name, single_scores):
    expected = closed_forms([tiny_urm()])[name]
    with torch.no_grad():
        output = tiny_urm()(**pad_rows([tiny_tokenizer()(text)["input_ids"] for text in TEXTS]))
    for scores in (single_scores, as_rows(single_scores), output):
        np.testing.assert_allclose(compute_uncertainty(scores, name), expected, rtol=1e-4, atol=1e-5)


def test_total_is_aleatoric_and_epistemic(ensemble_scores):
    total = compute_uncertainty(ensemble_scores, "aleatoric") + compute_uncertainty(ensemble_scores, "epistemic")
    np.testing.assert_array_equal(compute_uncertainty(ensemble_scores, "total"), total)
    from_stds = [sum(std**2 for std in score.attribute_stds.values()) for score in ensemble_scores]
    np.testing.assert_allclose(total, from_stds, rtol=1e-5)


def test_of_a_file_that_urm_score_wrote(folders, ensemble_scores, tmp_path):
    data, out = tmp_path / "conversations.jsonl", tmp_path / "scored.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    assert main(["score", *folders, "--data", str(data), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    for name in MEASURES:
        np.testing.assert_allclose(
            compute_uncertainty(rows, name), compute_uncertainty(ensemble_scores, name), rtol=1e-5
        )


@pytest.mark.parametrize("name", [name for name in MEASURES if MEASURES[name].by_attribute])
@pytest.mark.parametrize("named", [False, True])
def test_scales_divide_each_attribute(name, named, ensemble_scores, single_scores):
    scales = dict(zip(reversed(list(single_scores[0].attribute_stds)), reversed(SCALES))) if named else SCALES
    if name in SINGLE:
        expected = closed_forms([tiny_urm()], SCALES)[name]
        np.testing.assert_allclose(compute_uncertainty(single_scores, name, scales), expected, rtol=1e-4)
    if name != "covariance_norm":
        expected = closed_forms([tiny_urm(seed=seed) for seed in range(3)], SCALES)[name]
        np.testing.assert_allclose(compute_uncertainty(ensemble_scores, name, scales), expected, rtol=1e-3)


def test_what_a_model_gives_is_listed(ensemble_scores, single_scores, scalar_scores):
    assert available(ensemble_scores) == list(MEASURES)
    assert sorted(available(single_scores)) == sorted(SINGLE)
    assert available(scalar_scores) == []


def test_no_scores_have_no_measures():
    assert compute_uncertainty([], "reward_std").shape == (0,)


# What is refused


@pytest.mark.parametrize("name", [name for name in MEASURES if MEASURES[name].needs_ensemble])
def test_a_single_model_has_no_disagreement(name, single_scores):
    with pytest.raises(ValueError, match=f"Row 0 comes from a single URM; {name} compares members"):
        compute_uncertainty(single_scores, name)


@pytest.mark.parametrize("name", MEASURES)
def test_a_scalar_reward_model_has_no_uncertainty(name, scalar_scores):
    with pytest.raises(ValueError, match="Row 0 has no uncertainty .* scalar reward model"):
        compute_uncertainty(scalar_scores, name)


def test_an_unknown_measure_is_answered_with_the_known(single_scores):
    with pytest.raises(ValueError, match="one of attribute_variance, .*reward_epistemic, got 'variance'"):
        compute_uncertainty(single_scores, "variance")


def test_a_row_of_another_model_is_named(ensemble_scores, single_scores):
    with pytest.raises(ValueError, match="Row 2 comes from a single URM"):
        compute_uncertainty([*ensemble_scores[:2], single_scores[0]], "reward_gap")


def test_one_score_in_place_of_a_list(single_scores):
    with pytest.raises(ValueError, match="pass \\[score\\]"):
        compute_uncertainty(single_scores[0], "reward_std")


def test_a_row_that_is_not_finite_is_named(single_scores):
    rows = as_rows(single_scores)
    rows[3]["reward_std"] = float("nan")
    with pytest.raises(ValueError, match=r"reward_std is not finite in rows \[3\]"):
        compute_uncertainty(rows, "reward_std")


@pytest.mark.parametrize(
    ("name", "scales", "message"),
    [
        ("reward_gap", SCALES, "unit of the reward"),
        ("total", [1.0, 2.0], "5 positive numbers"),
        ("total", [1.0, 1.0, 0.0, 1.0, 1.0], "5 positive numbers"),
        ("total", {"helpfulness": 1.0}, "must name the attributes"),
        ("covariance_norm", SCALES, "each member's stds"),
    ],
)
def test_scales_that_do_not_fit(name, scales, message, ensemble_scores):
    with pytest.raises(ValueError, match=message):
        compute_uncertainty(ensemble_scores, name, scales)


# Preferences and intervals


def test_preference_probability_is_that_of_two_gaussians():
    density = lambda x: norm.pdf(x, 0.7, 0.4) * norm.cdf(x, 0.2, 1.1)  # noqa: E731
    expected = quad(density, -10, 10)[0]
    assert preference_probability(0.7, 0.4, 0.2, 1.1) == pytest.approx(expected, abs=1e-9)


def test_preference_probability_without_variance_is_exact():
    assert [preference_probability(r, 0, 1, 0) for r in (2, 1, 0)] == [1.0, 0.5, 0.0]
    np.testing.assert_array_equal(preference_probability([2.0, 1.0, 0.0], 0.0, [1.0], [0.0, 0.0, 0.0]), [1, 0.5, 0])


def test_preference_probability_of_small_and_large_deviations():
    assert preference_probability(1e-30, 1e-30, 0.0, 0.0) == pytest.approx(norm.cdf(1))
    tiny = torch.tensor(1e-30)
    assert preference_probability(tiny, tiny, 0.0, 0.0).item() == pytest.approx(norm.cdf(1), abs=1e-6)
    assert preference_probability(1e6, 1.0, 0.0, 1.0) == 1.0


def test_both_orders_add_up_to_one():
    generator = np.random.default_rng(0)
    a, b = generator.normal(size=(2, 50))
    stds = generator.gamma(1, size=(2, 50))
    both = preference_probability(a, stds[0], b, stds[1]) + preference_probability(b, stds[1], a, stds[0])
    np.testing.assert_allclose(both, 1)


def test_functions_return_what_came_in():
    assert type(preference_probability(1.0, 1.0, 0.0, 1.0)) is float
    assert type(reward_interval(1.0, 1.0)[0]) is float
    array = np.array([1.0, 2.0])
    assert isinstance(preference_probability(array, 1.0, array, 1.0), np.ndarray)
    tensor = torch.tensor([1.0, 2.0], requires_grad=True)
    probability = preference_probability(tensor, torch.tensor([0.0, 1.0]), 1.0, 0.0)
    assert probability.dtype == torch.float32 and probability.tolist() == pytest.approx([0.5, norm.cdf(1)])
    probability.sum().backward()
    assert tensor.grad.tolist() == pytest.approx([0.0, norm.pdf(1)])
    assert reward_interval(tensor, torch.ones(2))[1].shape == (2,)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.99])
def test_reward_interval_holds_its_share(confidence):
    lower, upper = reward_interval([1.0, -2.0], [0.5, 3.0], confidence)
    shares = norm.cdf(upper, [1.0, -2.0], [0.5, 3.0]) - norm.cdf(lower, [1.0, -2.0], [0.5, 3.0])
    np.testing.assert_allclose(shares, confidence)


def test_impossible_arguments():
    with pytest.raises(ValueError, match="must not be negative"):
        preference_probability(0.0, -1.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="must not be negative"):
        reward_interval(torch.zeros(2), torch.tensor([1.0, -1.0]))
    with pytest.raises(ValueError, match="`confidence` must lie between 0 and 1, got 95"):
        reward_interval(0.0, 1.0, 95)


def test_scores_are_compared_row_by_row(single_scores):
    backwards = single_scores[::-1]
    expected = [
        norm.cdf((a.reward - b.reward) / (a.reward_std**2 + b.reward_std**2) ** 0.5)
        for a, b in zip(single_scores, backwards)
    ]
    np.testing.assert_allclose(compute_preference_probability(single_scores, backwards), expected)
    with pytest.raises(ValueError, match="one length, got 5 and 4"):
        compute_preference_probability(single_scores, backwards[:4])


def test_offsets_between_members_cancel_in_the_gap_of_margins(ensemble_scores):
    margins = np.array([a.member_rewards for a in ensemble_scores]) - np.array(ensemble_scores[0].member_rewards)
    expected = [max(abs(row[i] - row[j]) for i in range(3) for j in range(3)) for row in margins]
    first = [ensemble_scores[0]] * len(TEXTS)
    np.testing.assert_allclose(margin_gap(ensemble_scores, first), expected)
    moved = as_rows(ensemble_scores)
    for row in moved:
        row["member_rewards"][1] += 10.0
    np.testing.assert_allclose(margin_gap(moved, [moved[0]] * len(TEXTS)), expected)
    assert margin_gap([], []).shape == (0,)


def test_a_gap_of_margins_needs_members(single_scores):
    with pytest.raises(ValueError, match="no `member_rewards`; score with a URMEnsemble"):
        margin_gap(single_scores, single_scores)


def test_bare_rewards_are_sent_to_the_function_that_takes_them():
    with pytest.raises(ValueError, match=r"got 1.5.*`preference_probability\(reward_a, std_a, reward_b"):
        compute_preference_probability(1.5, 0.5)
