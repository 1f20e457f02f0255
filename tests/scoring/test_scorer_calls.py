"""The scorer as it is called: a list of names is an ensemble; one conversation alone is an error with the call."""

import numpy as np
import pytest
import torch
from datasets import Dataset

from tests.helpers.tiny import save_with_tokenizer, tiny_tokenizer, tiny_urm
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.scoring import standardize_rewards

MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]
ROW = {"prompt": "Hi", "response": "Hello!"}


def rewards(scores) -> list[float]:
    return [score.reward for score in scores]


def test_calling_the_scorer_is_scoring(scorer):
    assert rewards(scorer([MESSAGES, ROW])) == rewards(scorer.score([MESSAGES, ROW]))


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_names_is_an_ensemble(folders, ensemble, kind):
    scorer = RewardScorer(kind(folders), strategy="sequential")
    assert isinstance(scorer.model, URMEnsemble) and scorer.model.strategy == "sequential"
    expected = RewardScorer(ensemble).score([MESSAGES])
    assert rewards(scorer.score([MESSAGES])) == pytest.approx(rewards(expected), rel=1e-4)


def test_an_ensemble_s_revisions_are_a_list(folders, tmp_path):
    with pytest.raises(ValueError, match="`revision` must be a list, one for each of the 3 members, got 'main'"):
        RewardScorer(folders, revision="main")
    folder = save_with_tokenizer(tiny_urm(), tmp_path / "one")
    with pytest.raises(ValueError, match="`revision` must be one commit, branch or tag for one `model`"):
        RewardScorer(folder, revision=["main", "main"])


@pytest.mark.parametrize(
    "one, call",
    [
        (ROW, r"score\(\[row\]\)"),
        ({"prompt": ["a", "b"], "response": ["c", "d"]}, "table of columns"),
        (tiny_tokenizer()(["a"]), r"score\(\[row\]\)"),
        ("hello", r"score\(\[text\]\)"),
        (MESSAGES, r"score\(\[messages\]\)"),
        (tuple(MESSAGES), r"score\(\[messages\]\)"),
        ([{"role": "assistant", "tool_calls": []}], r"score\(\[messages\]\)"),
        ([260, 104, 101], "input_ids"),
        (Dataset.from_list([ROW]).to_pandas(), r"to_dict\(\"records\"\)"),
    ],
)
def test_one_conversation_alone_is_an_error_that_shows_the_call(scorer, one, call):
    for score in (scorer, scorer.score, lambda rows: list(scorer.score_stream(rows))):
        with pytest.raises(ValueError, match=f"`conversations` must be a list of conversations.*{call}"):
            score(one)


def test_standardizing_by_one_conversation_shows_the_call(ensemble):
    with pytest.raises(ValueError, match=r"score\(\[row\]\)"):
        standardize_rewards(ensemble, ROW)


def test_what_holds_several_is_taken(scorer):
    expected = rewards(scorer.score([ROW, ROW | {"response": "Bye."}]))
    several = [ROW | {"role": "a pirate"}, ROW | {"response": "Bye.", "role": "a pirate"}]
    for rows in (several, iter(several), Dataset.from_list(several), np.array(several)):
        assert rewards(scorer.score(rows)) == pytest.approx(expected, rel=1e-4)
    assert scorer.score([]) == [] and torch.isfinite(torch.tensor(expected)).all()
