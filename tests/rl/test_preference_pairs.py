"""Pairs from candidates: which are made, which are left out, and that every candidate and pair is accounted for."""

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from tests.helpers.tiny import save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScore, RewardScorer, URMEnsemble
from urm_hf.data.errors import RowError
from urm_hf.rl.preference_pairs import PairReport, build_preference_pairs


class KnownScorer(RewardScorer):
    """Gives each answer the reward, std and gap that its text says: "1.5 0.2 0.7"."""

    def __init__(self):
        self.calls, self.fields = [], ("reward", "reward_std", "reward_gap")
        self.attributes, self.model = ["quality"], object.__new__(URMEnsemble)

    def score(self, conversations, progress=False):
        self.calls.append(len(conversations))
        answers = [row["completion"] for row in conversations]
        texts = [answer if isinstance(answer, str) else answer[-1]["content"] for answer in answers]
        numbers = [map(float, text.removeprefix("P:").split()) for text in texts]
        return [RewardScore(**dict(zip(self.fields, row))) for row in numbers]


class MeansScorer(KnownScorer):
    """Rewards only, as of a reward model without uncertainty."""

    def __init__(self):
        super().__init__()
        self.fields, self.attributes = ("reward",), None


QUESTION = [{"role": "user", "content": "?"}]


def build(*candidates, scorer=None, **kwargs):
    """Candidates of one prompt after the other, given as strings of numbers."""
    return build_preference_pairs([QUESTION] * len(candidates), candidates, scorer or KnownScorer(), **kwargs)


def sides(dataset) -> list[tuple[float, float]]:
    return list(zip(dataset["score_chosen"], dataset["score_rejected"], strict=True))


def test_the_best_is_chosen_over_the_worst():
    scorer = KnownScorer()
    dataset, report = build(["1 1 1", "3 1 1", "2 1 1"], ["-5 1 1", "-4 1 1"], scorer=scorer)
    assert sides(dataset) == [(3.0, 1.0), (-4.0, -5.0)]
    assert dataset[0]["prompt"] == QUESTION
    assert dataset[0]["chosen"] == [{"role": "assistant", "content": "3 1 1"}]
    assert dataset[0]["rejected"] == [{"role": "assistant", "content": "1 1 1"}]
    assert report == PairReport(prompts=2, candidates=5, pairs=2)
    assert scorer.calls == [5]  # all prompts in one call


def test_all_pairs_are_made_with_the_better_as_chosen():
    dataset, report = build(["1 1 1", "3 1 1", "2 1 1"], select="all")
    assert sorted(sides(dataset)) == [(2.0, 1.0), (3.0, 1.0), (3.0, 2.0)]
    assert report.pairs == 3


def test_probability_is_that_of_two_gaussians():
    dataset, _ = build(["1.0 0.3 1", "1.7 0.4 1"])
    difference = NormalDist(1.7, 0.4) - NormalDist(1.0, 0.3)
    assert dataset["probability"] == close([1 - difference.cdf(0)])


def test_pairs_within_the_band_are_undecided():
    # P = Phi(1 / sqrt 2) = 0.760, Phi(1 / 5 / sqrt 2) = 0.556
    candidates = (["0 1 1", "1 1 1"], ["0 5 1", "1 5 1"])
    for least, kept in ((0.5, 2), (0.55, 2), (0.56, 1), (0.75, 1)):
        dataset, report = build(*candidates, min_probability=least)
        assert (len(dataset), report.undecided) == (kept, 2 - kept)
        assert min(dataset["probability"]) >= least


def test_ties_and_rewards_within_the_margin_make_no_pair():
    candidates = (["1 1 1", "1.0 1 1"], ["0 1 1", "0.5 1 1"], ["0 1 1", "0.75 1 1"])
    assert build(*candidates)[1] == PairReport(prompts=3, candidates=6, close=1, pairs=2)
    dataset, report = build(*candidates, margin=0.5)
    assert sides(dataset) == [(0.75, 0.0)]
    assert (report.close, report.pairs) == (2, 1)


def test_an_unknown_answer_is_on_neither_side():
    dataset, report = build(["9 1 5", "1 1 1", "2 1 2", "-9 1 5"], measure="reward_gap", threshold=2.0)
    assert sides(dataset) == [(2.0, 1.0)]
    assert (dataset["uncertainty_chosen"][0], dataset["uncertainty_rejected"][0]) == (2.0, 1.0)
    assert report == PairReport(prompts=1, candidates=4, unknown=2, pairs=1, threshold=2.0)


def test_a_share_keeps_the_lowest_uncertainties_of_all_prompts_together():
    # gaps 5 1 2 of the one prompt, 4 3 6 of the other: half of six are those up to 3
    candidates = (["9 1 5", "1 1 1", "2 1 2"], ["0 1 4", "5 1 3", "7 1 6"])
    dataset, report = build(*candidates, measure="reward_gap", keep=0.5)
    assert sides(dataset) == [(2.0, 1.0)]
    expected = PairReport(prompts=2, candidates=6, unknown=3, lone_prompts=1, pairs=1, threshold=3.0)
    assert report == expected
    assert "3 uncertain candidates (above 3);" in str(report)
    by_threshold = build(*candidates, measure="reward_gap", threshold=3.0)
    assert (by_threshold[0].to_list(), by_threshold[1]) == (dataset.to_list(), expected)
    assert build(*candidates, measure="reward_gap", keep=1.0)[1].unknown == 0


def test_a_share_is_of_the_candidates_that_were_scored():
    # four of seven are left to share: empty and repeated ones are no candidates of low uncertainty
    _, report = build(["1 1 1", "", "1 1 1", "2 1 2", "3 1 3", " ", "4 1 4"], measure="reward_gap", keep=0.5)
    assert (report.unknown, report.empty, report.duplicate, report.threshold) == (2, 2, 1, 2.0)
    # ties with the last one share its fate
    assert build(["1 1 1", "2 1 2", "3 1 2", "4 1 4"], measure="reward_gap", keep=0.5)[1].unknown == 1
    with pytest.raises(ValueError, match="no pair is left. 0 pairs from 2 candidates"):
        build(["", " "], measure="reward_gap", keep=0.5)


def test_empty_and_duplicate_answers_are_counted_and_not_scored():
    scorer = KnownScorer()
    _, report = build(["1 1 1", "", " \n", "2 1 1", "1 1 1"], ["3 1 1"], [], scorer=scorer)
    assert report == PairReport(prompts=3, candidates=6, empty=2, duplicate=1, lone_prompts=2, pairs=1)
    assert scorer.calls == [3]


@pytest.mark.parametrize("select", ["best_worst", "all"])
def test_everything_is_accounted_for(select):
    rng = np.random.default_rng(0)
    candidates = [
        [f"{rng.integers(3)} {rng.integers(1, 4)} {rng.random():.1f}" if rng.random() < 0.9 else "" for _ in range(5)]
        for _ in range(60)
    ]
    settings = {"measure": "reward_gap", "threshold": 0.6, "margin": 0.5, "min_probability": 0.65}
    dataset, report = build(*candidates, select=select, **settings)
    known = [{a for a in group if a and float(a.split()[2]) <= 0.6} for group in candidates]
    possible = sum(len(list(combinations(g, 2))) if select == "all" else 1 for g in known if len(g) > 1)
    assert report.pairs + report.close + report.undecided == possible
    assert report.empty + report.duplicate + report.unknown + sum(map(len, known)) == report.candidates == 300
    assert report.lone_prompts == sum(len(group) < 2 for group in known)
    assert min(report.close, report.undecided, report.unknown, report.duplicate, report.lone_prompts) > 0
    assert len(dataset) == report.pairs
    assert str(report).startswith(f"{report.pairs} pairs from 300 candidates for 60 prompts. Left out: {report.empty}")


def test_a_candidate_that_cannot_be_scored_is_named_or_left_out():
    urm = RewardScorer(tiny_urm(), tiny_tokenizer(), max_length=60)
    answers = [["short", "another", "far too long " * 20], ["one", "two"]]
    with pytest.raises(RowError, match=r"^prompts\[0\], the candidate 'far too long .*60.*`on_error=\"skip\"`"):
        build_preference_pairs([QUESTION] * 2, answers, urm)
    found, report = build_preference_pairs([QUESTION] * 2, answers, urm, on_error="skip")
    expected, _ = build_preference_pairs([QUESTION] * 2, [answers[0][:2], answers[1]], urm)
    assert found.to_list() == expected.to_list()
    assert (report.candidates, report.unscorable, report.pairs) == (5, 1, 2)
    assert "1 unscorable" in str(report)
    with pytest.raises(ValueError, match="`on_error` must be raise or skip"):
        build_preference_pairs([QUESTION], [["a", "b"]], urm, on_error="ignore")


def test_plain_text_stays_text():
    dataset, _ = build_preference_pairs(["P:"], [["1 1 1", "2 1 1"]], KnownScorer())
    assert (dataset["prompt"][0], dataset["chosen"][0], dataset["rejected"][0]) == ("P:", "2 1 1", "1 1 1")


def test_a_model_without_uncertainty_makes_pairs_but_no_probability():
    dataset, _ = build(["1", "2"], scorer=MeansScorer())
    assert "probability" not in dataset.column_names
    with pytest.raises(ValueError, match="`min_probability`.*reward_std"):
        build(["1", "2"], scorer=MeansScorer(), min_probability=0.6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"select": "best"}, "`select` must be one of best_worst, all, got 'best'"),
        ({"margin": -1.0}, "`margin` must be finite and not negative, got -1.0"),
        ({"margin": float("nan")}, "`margin`"),
        ({"min_probability": 0.4}, "`min_probability` must be at least 0.5 and below 1, got 0.4"),
        ({"min_probability": 1.0}, "`min_probability`"),
        ({"measure": "reward_gap"}, "`measure` and `threshold` go together"),
        ({"threshold": 1.0}, "`measure` and `threshold` go together"),
        ({"keep": 0.5}, "`measure` and `keep`; got measure=None, keep=0.5"),
        ({"measure": "reward_gap", "threshold": 1.0, "keep": 0.5}, "either `threshold` or `keep`, got threshold=1.0"),
        ({"measure": "reward_gap", "keep": 0.0}, r"`keep` is a share and must lie in \(0, 1\], got 0.0"),
        ({"measure": "reward_gap", "keep": 1.1}, "`keep`"),
        ({"measure": "reward_gap", "keep": float("nan")}, "`keep`"),
        ({"measure": "reward_gap", "threshold": float("nan")}, "`threshold` must be finite"),
        ({"measure": "gap", "threshold": 1.0}, "`measure` must be one of .* got 'gap'"),
        ({"margin": 7.0}, "no pair is left. 0 pairs from 2 candidates for 1 prompts.* 1 pairs too close"),
    ],
)
def test_bad_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(["1 1 1", "2 1 1"], **kwargs)


def test_candidates_must_be_lists_for_each_prompt():
    with pytest.raises(ValueError, match="a list for each of the 2 prompts, got 1"):
        build_preference_pairs([QUESTION] * 2, [["1 1 1", "2 1 1"]], KnownScorer())
    with pytest.raises(ValueError, match=r"`candidates\[0\]` must be a list of answers, got str"):
        build_preference_pairs([QUESTION], ["1 1 1"], KnownScorer())
    with pytest.raises(ValueError, match="`prompts` is empty"):
        build_preference_pairs([], [], KnownScorer())
    with pytest.raises(ValueError, match=r"`prompts\[1\]` is not as the first"):
        build_preference_pairs([QUESTION, "?"], [["1 1 1"], ["1 1 1"]], KnownScorer())
    with pytest.raises(ValueError, match=r"`candidates\[0\]` must be texts"):
        build_preference_pairs(["?"], [[[{"role": "assistant", "content": "1 1 1"}]]], KnownScorer())


def test_dpo_trains_on_what_a_urm_paired(tmp_path):
    folder = save_with_tokenizer(tiny_urm(), tmp_path / "urm")
    prompts = [[{"role": "user", "content": f"{k}?"}] for k in range(4)]
    candidates = [[letter * (k + 1) for letter in "abc"] for k in range(4)]
    dataset, report = build_preference_pairs(prompts, candidates, folder)
    scores = RewardScorer(folder).score([{"prompt": prompts[1], "completion": text} for text in candidates[1]])
    assert sides(dataset)[1] == close((max(s.reward for s in scores), min(s.reward for s in scores)))
    assert report.pairs == 4
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(tiny_backbone_config(initializer_range=0.02)).save_pretrained(tmp_path / "policy")
    settings = {"report_to": "none", "use_cpu": True, "bf16": False, "save_strategy": "no", "disable_tqdm": True}
    config = DPOConfig(
        str(tmp_path / "dpo"),
        max_steps=3,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        logging_steps=1,
        model_init_kwargs={"dtype": "float32"},
        **settings,
    )
    policy = str(tmp_path / "policy")
    trainer = DPOTrainer(policy, args=config, train_dataset=dataset, processing_class=tiny_tokenizer())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(np.log(2), abs=1e-3)
    assert losses[-1] < 0.6
