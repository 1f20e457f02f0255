"""A model trained by the squared error has no sigma: whatever is read from it is absent, or refused by name."""

import json

import pytest

from tests.helpers.score_runs import write
from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble, compute_uncertainty
from urm_hf.cli import main
from urm_hf.hub.card.card import model_card
from urm_hf.modeling import URMEnsembleConfig
from urm_hf.scores import SIGMA_FIELDS
from urm_hf.uncertainty.measures import MEASURES, available

ATTRIBUTES = ["help", "depth"]
ROWS = [{"prompt": f"{n}?", "response": "so " * (n + 1), "help": n % 5, "depth": [1, n % 3]} for n in range(8)]
OF_SIGMA = ("attribute_variance", "covariance_norm", "aleatoric", "reward_std")


def urm(seed: int = 0, loss: str = "deterministic"):
    return tiny_urm(seed=seed, attributes=ATTRIBUTES, attribute_loss=loss)


def score(*models):
    model = models[0]
    if len(models) > 1:
        names = [f"org/{number}" for number in range(len(models))]
        model = URMEnsemble(URMEnsembleConfig(members=names), models)
    return RewardScorer(model, tiny_tokenizer()).score(ROWS)


def test_scores_have_no_field_that_is_read_from_sigma():
    scores, others = score(urm()), score(urm(loss="mle"))
    for one, other in zip(scores, others):
        assert not set(SIGMA_FIELDS) & set(one) and set(SIGMA_FIELDS) <= set(other)
        assert {name: one[name] for name in one} == {name: other[name] for name in one}
    assert available(scores) == []


@pytest.mark.parametrize("measure", OF_SIGMA)
def test_measures_of_sigma_are_refused_by_name(measure):
    for scores in (score(urm()), score(urm(0), urm(1))):
        with pytest.raises(
            ValueError, match=f"Row 0 has no sigma: .*deterministic.* {measure} needs a model trained by"
        ):
            compute_uncertainty(scores, measure)


def test_members_disagree_all_the_same():
    without, whole = score(urm(0), urm(1)), score(urm(0, "mle"), urm(1, "mle"))
    measures = [name for name in MEASURES if not MEASURES[name].needs_sigma]
    assert available(without) == measures and "epistemic" in measures
    for measure in measures:
        assert compute_uncertainty(without, measure).tolist() == compute_uncertainty(whole, measure).tolist()
    scales = [2.0, 0.5]
    expected = compute_uncertainty(whole, "epistemic", scales)
    assert compute_uncertainty(without, "epistemic", scales).tolist() == expected.tolist()


def test_one_member_with_sigma_is_enough():
    assert set(SIGMA_FIELDS) <= set(score(urm(0), urm(1, "mle"))[0])


def test_ratings_are_evaluated_without_likelihoods(tmp_path):
    for name, loss in (("without", "deterministic"), ("whole", "mle")):
        save_with_tokenizer(urm(loss=loss), tmp_path / name)
    data = str(write(tmp_path / "rated.jsonl", ROWS))
    argv = [str(tmp_path / "without"), str(tmp_path / "whole"), "--data", data, "--out", str(tmp_path / "out")]
    assert (
        main(["evaluate", *argv, "--kind", "ratings", "--attributes", *ATTRIBUTES, "--bootstrap-samples", "20"]) == 0
    )
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    metrics = {name: {m["metric"] for m in results["metrics"] if m["model"] == name} for name in ("without", "whole")}
    lost = {"nll", "crps", "coverage50", "coverage68", "coverage95", "spread_pearson"}
    assert lost <= metrics["whole"] and not lost & metrics["without"]
    assert {"pearson", "spearman"} <= metrics["without"]
    assert "trained without sigma" in json.dumps(results)


def test_a_pushed_model_draws_and_writes_no_spread(tmp_path, capsys):
    folder = save_with_tokenizer(urm(), tmp_path / "urm")
    assert main(["push", folder, "org/urm", "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert "README.md" in printed and "reference.png" not in printed
    card = str(model_card(urm().config.to_dict(), "org/urm"))
    assert "**There is no σ.**" in card and "not calibrated" not in card
