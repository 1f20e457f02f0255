"""The report against sklearn and closed forms; trivial detectors that know nothing must be able to win."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score, roc_curve

from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import RewardScore, RewardScorer, URMEnsemble
from urm_hf.uncertainty.detectors import auroc, fpr_at_95
from urm_hf.uncertainty.measures import MEASURES
from urm_hf.uncertainty.ood import ood_report

QUICK = {"n_resamples": 300}


def scores(stds, lengths=None, rewards=None) -> list[RewardScore]:
    n = len(stds)
    lengths = np.full(n, 50) if lengths is None else lengths
    rewards = np.zeros(n) if rewards is None else rewards
    columns = zip(stds, lengths, rewards, strict=True)
    return [RewardScore(reward=float(r), reward_std=float(s), n_tokens=int(length)) for s, length, r in columns]


def report(known, unknown, **kwargs):
    return ood_report(known, unknown, measures=["reward_std"], **(QUICK | kwargs))


def row(result, name):
    (found,) = [entry for entry in result.rows if entry.name.startswith(name)]
    return found


# Numbers


@pytest.mark.parametrize("ties", [False, True])
def test_auroc_and_fpr_are_those_of_sklearn(ties):
    generator = np.random.default_rng(0)
    for n_in, n_out in ((40, 60), (7, 100), (100, 20), (3, 2)):
        known, unknown = generator.normal(0, 1, n_in), generator.normal(1, 1, n_out)
        if ties:
            known, unknown = known.round(), unknown.round()
        truth = np.repeat([0, 1], [n_in, n_out])
        both = np.concatenate([known, unknown])
        assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, both))
        rate_in, rate_out, _ = roc_curve(truth, both, drop_intermediate=False)
        assert fpr_at_95(known, unknown) == pytest.approx(rate_in[rate_out >= 0.95 - 1e-9][0])


def test_several_detectors_at_once():
    generator = np.random.default_rng(1)
    known, unknown = generator.normal(size=(3, 30)), generator.normal(size=(3, 50))
    for function in (auroc, fpr_at_95):
        assert function(known, unknown).tolist() == [function(known[i], unknown[i]) for i in range(3)]


def test_out_of_distribution_is_positive():
    found = row(report(scores([1, 2, 3]), scores([4, 5, 6])), "reward_std")
    assert (found.auroc, found.fpr95) == (1.0, 0.0)


def test_a_measure_that_takes_the_unknown_for_known_is_shown_as_it_is():
    found = row(report(scores([4, 5, 6]), scores([1, 2, 3])), "reward_std")
    assert (found.auroc, found.fpr95, found.beats_trivial) == (0.0, 1.0, False)


def test_intervals_cover_the_truth():
    # AUROC of N(0, 1) against N(d, 1) is Phi(d / sqrt 2)
    generator, covered, repetitions = np.random.default_rng(2), 0, 50
    for seed in range(repetitions):
        known, unknown = scores(generator.normal(5, 1, 60)), scores(generator.normal(5.8, 1, 60))
        low, high = row(report(known, unknown, seed=seed, n_resamples=150), "reward_std").auroc_interval
        covered += low <= norm.cdf(0.8 / 2**0.5) <= high
    assert 0.8 * repetitions < covered < repetitions  # 95 % of 50: 47.5, standard deviation 1.5


def test_rows_of_one_prompt_are_resampled_together():
    generator = np.random.default_rng(3)
    stds = generator.normal(5, 1, 12).repeat(20), generator.normal(5.5, 1, 12).repeat(20)
    prompts = np.arange(12).repeat(20).tolist()
    known, unknown = map(scores, stds)
    widths = {}
    for name, groups in (("rows", None), ("prompts", (prompts, prompts))):
        low, high = row(report(known, unknown, groups=groups), "reward_std").auroc_interval
        widths[name] = high - low
    assert widths["prompts"] > 2.5 * widths["rows"]  # sqrt(20) = 4.5
    single = report(scores(stds[0][::20]), scores(stds[1][::20]), seed=0)
    low, high = row(single, "reward_std").auroc_interval
    assert widths["prompts"] == pytest.approx(high - low, abs=1e-9)
    assert "240 (12 groups)" in report(known, unknown, groups=(prompts, prompts)).table()


def test_the_same_seed_gives_the_same_report():
    generator = np.random.default_rng(4)
    known, unknown = scores(generator.normal(5, 1, 30)), scores(generator.normal(6, 1, 30))
    assert report(known, unknown, seed=1).table() == report(known, unknown, seed=1).table()
    assert report(known, unknown, seed=1).rows != report(known, unknown, seed=2).rows


# Trivial detectors


def test_a_measure_that_is_length_in_disguise_does_not_beat_length():
    generator = np.random.default_rng(5)
    lengths = generator.integers(20, 60, 200), generator.integers(50, 90, 200)
    known, unknown = (scores(length + generator.normal(0, 5, 200), length) for length in lengths)
    result = report(known, unknown)
    found = row(result, "reward_std")
    assert found.auroc > 0.9 and result.best_trivial.name == "length (higher)"
    assert not found.beats_trivial and found.gain == pytest.approx(found.auroc - result.best_trivial.auroc)
    assert "| reward_std |" in result.table() and result.table().count("| no |") == 1


def test_a_measure_that_knows_more_beats_them():
    generator = np.random.default_rng(6)
    known, unknown = scores(generator.normal(5, 1, 200)), scores(generator.normal(8, 1, 200))
    found = row(report(known, unknown), "reward_std")
    assert found.beats_trivial and found.gain_interval[0] <= found.gain <= found.gain_interval[1]


def test_a_lead_within_chance_is_no_lead():
    generator = np.random.default_rng(7)
    beaten = 0
    for seed in range(30):  # the measure is as good as length, and independent of it
        known, unknown = (
            scores(generator.normal(shift, 1, 80) + 9, 1000 + 100 * generator.normal(shift, 1, 80)) for shift in (0, 1)
        )
        beaten += row(report(known, unknown, seed=seed, n_resamples=150), "reward_std").beats_trivial
    assert beaten <= 5  # expected: 2.5 % of 30


@pytest.mark.parametrize(
    ("known", "unknown", "name"),
    [
        ([50, 60, 55, 52], [10, 12, 8, 9], "length (lower)"),
        ([50, 60, 55, 52], [90, 99, 92, 80], "length (higher)"),
        ([50, 60, 55, 52], [10, 99, 11, 98], "length (far from usual)"),
    ],
)
def test_length_is_taken_in_its_best_direction(known, unknown, name):
    result = report(scores(np.ones(4), known), scores(np.ones(4), unknown))
    assert row(result, "length").name == name and row(result, "length").auroc == 1.0


def test_the_reward_itself_is_a_detector():
    result = report(scores(np.ones(3), rewards=[1, 2, 3]), scores(np.ones(3), rewards=[-1, -2, 0]))
    assert row(result, "reward (").name == "reward (lower)" and result.best_trivial.auroc == 1.0


def test_texts_show_what_characters_and_words_tell():
    texts = (["a plain line", "another plain one"], ["12 * 3 = 36", "no no no no"])
    result = report(scores([1, 1]), scores([1, 1]), texts=texts)
    assert result.values["non-letters (higher)"][1].tolist() == [1.0, 0.0]
    assert result.values["distinct words (lower)"][1].tolist() == [-1.0, -0.25]


def test_empty_texts_are_no_obstacle():
    result = report(scores([1, 1]), scores([1, 1]), texts=(["", " "], ["a", "b c"]))
    assert row(result, "non-letters").auroc == 0.5


# What goes in and comes out


def test_every_measure_that_the_scores_give_is_assessed(tmp_path):
    folders = [save_with_tokenizer(tiny_urm(seed=seed), tmp_path / f"member-{seed}") for seed in range(3)]
    scorer = RewardScorer(URMEnsemble.from_pretrained(folders), tiny_tokenizer())
    texts = (["A plain sentence.", "Another one, longer.", "A third."], ["1 + 1", "22 * 3 = 66", "@@@@"])
    known, unknown = map(scorer.score, texts)
    result = ood_report(known, unknown, texts=texts, **QUICK)
    # aleatoric is the same number as attribute_variance
    assert [entry.name for entry in result.rows if not entry.trivial] == [n for n in MEASURES if n != "aleatoric"]
    assert len([entry for entry in result.rows if entry.trivial]) == 4
    path = result.plot(tmp_path / "plots" / "ood.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert str(result) == result.table()
    assert result.table().count("\n") == 3 + len(result.rows)


def test_a_measure_of_ones_own():
    result = report(scores([1, 1, 1]), scores([1, 1, 1]), extra={"mine": ([1, 2, 3], [2, 3, 4])})
    assert row(result, "mine").auroc == pytest.approx(roc_auc_score([0, 0, 0, 1, 1, 1], [1, 2, 3, 2, 3, 4]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"in_distribution": []}, "`in_distribution` needs at least two conversations"),
        ({"out": []}, "`out` needs at least two conversations"),
        ({"groups": ([0, 0, 0], [1, 2])}, "`in_distribution` needs at least two conversations .or groups."),
        ({"groups": ([0, 1], [1, 2])}, "each of the 3 conversations of `in_distribution`, got 2"),
        ({"texts": (["a"], ["b", "c"])}, "non-letters .* has 1 and 2 values for 3 and 2"),
        ({"extra": {"mine": ([1, 2, 3], [1])}}, "mine has 3 and 1 values for 3 and 2"),
        ({"extra": {"mine": ([1, 2, None], [1, 2])}}, r"mine is missing or not finite in rows \[2\]"),
        ({"measures": ["reward_gap"]}, "single URM; reward_gap"),
        ({"measures": ["gap"]}, "one of attribute_variance"),
        ({"in_distribution": [{"reward": 1.0, "n_tokens": 3}] * 3}, "scalar reward model"),
        ({"out": [{"reward": 1.0, "reward_std": 1.0}] * 2}, r"n_tokens is missing or not finite in rows \[0, 1\]"),
    ],
)
def test_what_cannot_be_assessed(change, message):
    arguments = {"in_distribution": scores([1, 2, 3]), "out": scores([1, 2]), "measures": ["reward_std"]} | change
    with pytest.raises(ValueError, match=message):
        ood_report(**arguments)


def test_a_scalar_reward_model_has_nothing_to_assess():
    rows = [{"reward": 1.0, "n_tokens": 3}] * 3
    with pytest.raises(ValueError, match="scores of a scalar reward model hold none"):
        ood_report(rows, rows)
