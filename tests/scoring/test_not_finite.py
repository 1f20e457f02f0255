"""A conversation that the model cannot bear fails alone, whatever it shares with others of its batch."""

import pytest
import torch

from tests.helpers.branching import rewards, rewards_alone
from tests.helpers.posteriors import with_posterior
from tests.helpers.tiny import save_members, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.scoring.engine.batches import Packs
from urm_hf.scoring.scorer import NonFiniteScores

SHARED = "They share the beginning of this conversation, "  # more than what packs compute again
SOUND = "of sound tokens only, and longer than the others, so that it shows that packs are possible"


def unsound(model, token: str):
    """The hidden states of whatever contains this token are no numbers."""
    with torch.no_grad():
        model.get_input_embeddings().weight[tiny_tokenizer()(token)["input_ids"][0]] = float("nan")
    return model


@pytest.mark.parametrize("ending", ["A", "A and more", "~ and A"])
def test_those_that_share_its_prefix_are_not_spoiled(ending):
    """What a token must not read has the weight 0 in attention, and 0 * NaN is NaN."""
    scorer = RewardScorer(unsound(tiny_urm(), "A"), tiny_tokenizer())
    scorer.score([SOUND])
    rows = [f"{SHARED}y", f"{SHARED}{ending}", f"{SHARED}~", "another", f"{SHARED}{ending}"]
    with pytest.raises(NonFiniteScores, match="^row 1: the model gave the reward nan") as told:
        scorer.score(rows)
    assert told.value.indices == [1, 4]
    sound = [rows[0], rows[2], rows[3]]
    assert rewards(scorer.score(sound)) == close(rewards_alone(scorer.model, sound))


def test_nor_are_they_in_an_ensemble_on_one_backbone(tmp_path):
    members = [tiny_urm(seed=seed) for seed in range(3)]
    for member in members:
        member.model.load_state_dict(members[0].model.state_dict())
    ensemble = URMEnsemble.from_pretrained(save_members(tmp_path, members), strategy="shared")
    unsound(ensemble.members[0], "A")
    scorer = RewardScorer(ensemble)
    scorer.score([SOUND])
    rows = [f"{SHARED}{ending}" for ending in ("y", "A", "~")]
    with pytest.raises(NonFiniteScores, match="^row 1: .*member-0 gave rewards that are not finite") as told:
        scorer.score(rows)
    assert told.value.indices == [1]


@pytest.mark.parametrize("strategy", ["resident", "sequential"])
def test_nor_where_each_member_has_its_own(strategy, tmp_path):
    members = [tiny_urm(seed=0), unsound(tiny_urm(seed=1), "A"), unsound(tiny_urm(seed=2), "~")]
    scorer = RewardScorer(URMEnsemble.from_pretrained(save_members(tmp_path, members), strategy=strategy))
    scorer.score([SOUND])
    with pytest.raises(NonFiniteScores) as told:
        scorer.score([f"{SHARED}{ending}" for ending in ("y", "A", "z")])
    assert told.value.indices == [1]


def test_one_of_them_does_not_decide_how_all_others_are_batched():
    """The first conversation shows whether packs are possible, but not if its states are no numbers."""
    scorer = RewardScorer(unsound(tiny_urm(), "A"), tiny_tokenizer())
    with pytest.raises(NonFiniteScores):
        scorer.score(["A" * 30])
    scorer.score([f"{SHARED}{ending}" for ending in ("y", "x", "~")])
    assert scorer.stats["computed_tokens"] == scorer.stats["distinct_tokens"]


def test_rows_that_are_computed_again_get_all_their_numbers(monkeypatch):
    scorer = RewardScorer(with_posterior()[0], tiny_tokenizer())
    rows = [f"{SHARED}{ending}" for ending in ("y", "A", "~")]
    wanted, run = scorer.score(rows, return_posterior_features=True), Packs.run

    def run_spoiled(self, start, stop):
        return [
            type(output)(**{name: torch.full_like(values, torch.nan) for name, values in output.items()})
            for output in run(self, start, stop)
        ]

    monkeypatch.setattr(Packs, "run", run_spoiled)
    for found, expected in zip(scorer.score(rows, return_posterior_features=True), wanted, strict=True):
        assert found.reward == close(expected.reward)
        features, before = (torch.tensor(score.posterior_features) for score in (found, expected))
        # the last is the length outside of the basis, which holds every direction here: the root of rounding
        torch.testing.assert_close(features[:-1], before[:-1], rtol=1e-2, atol=1e-3)
        torch.testing.assert_close(features[-1], before[-1], rtol=0, atol=1e-3 * float(before.norm()))
