"""Scores of a model or of a file, matched to conversations by what they say."""

import gzip
import json

import pytest
from transformers import LlamaForSequenceClassification

from tests.helpers.tiny import save_members, save_with_tokenizer, tiny_backbone_config, tiny_tokenizer, tiny_urm
from tests.helpers.tolerances import close
from urm_hf import RewardScorer, URMEnsemble
from urm_hf.cli import main
from urm_hf.data.conversation_keys import conversation_key
from urm_hf.evaluation.model_scores import ModelScores, OpenModel

PAIRS = [
    {"prompt": [{"role": "user", "content": f"Say {word}"}], "chosen": f"{word} !", "rejected": "no"}
    for word in ("one", "two", "three")
]
CONVERSATIONS = [{"prompt": row["prompt"], "response": row[side]} for row in PAIRS for side in ("chosen", "rejected")]


@pytest.fixture
def folder(tmp_path):
    return save_with_tokenizer(tiny_urm(), tmp_path / "model")


def scores_of(source: str, conversations: list, folder, **how) -> ModelScores:
    return OpenModel(source, "model").scores(conversations, folder, **how)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_key_is_of_the_turns_whatever_form_they_have():
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    forms = [
        turns,
        {"messages": turns},
        {"prompt": turns[:1], "completion": "Hello"},
        {"prompt": turns[:1], "response": turns[1:]},
        {"prompt": "Hi", "response": "Hello", "id": 3},
    ]
    assert len({conversation_key(form) for form in forms}) == 1
    others = [turns[:1], {"prompt": "Hi", "response": "Hello "}, {"text": "Hi"}, "Hello", {"input_ids": [1, 2]}]
    assert len({conversation_key(form) for form in [*others, turns]}) == len(others) + 1


def test_a_models_scores_are_those_of_the_scorer(folder, tmp_path):
    found = scores_of(str(folder), [*CONVERSATIONS, CONVERSATIONS[0]], tmp_path / "scores", progress=False)
    expected = RewardScorer(str(folder)).score(CONVERSATIONS)
    assert (found.kind, found.name, found.attributes) == ("urm", "model", list(expected[0].attribute_means))
    for ours, theirs in zip(found.scores, [*expected, expected[0]], strict=True):
        assert ours.reward == close(theirs.reward)
        assert ours.attribute_stds == close(theirs.attribute_stds)
        assert ours.n_tokens == theirs.n_tokens


def test_scores_that_are_there_are_not_computed_again(folder, tmp_path, monkeypatch):
    first = scores_of(str(folder), CONVERSATIONS, tmp_path / "scores", progress=False)
    with monkeypatch.context() as patched:
        patched.setattr(RewardScorer, "score_ids", lambda *args, **kwargs: pytest.fail("scored again"))
        again = scores_of(str(folder), CONVERSATIONS, tmp_path / "scores", progress=False)
    assert [score.reward for score in again.scores] == [score.reward for score in first.scores]
    save_with_tokenizer(tiny_urm(seed=5), folder)  # another model of that name
    other = scores_of(str(folder), CONVERSATIONS, tmp_path / "scores", progress=False)
    assert other.scores[0].reward != pytest.approx(first.scores[0].reward, abs=1e-3)
    assert other.scores[0].reward == close(RewardScorer(str(folder)).score(CONVERSATIONS)[0].reward)
    more = scores_of(str(folder), CONVERSATIONS[:3], tmp_path / "scores", progress=False)
    assert len(more.scores) == 3


def test_one_model_is_loaded_once_for_several_data(folder, tmp_path):
    model = OpenModel(str(folder), "model")
    model.scores(CONVERSATIONS[:2], tmp_path / "a", progress=False)
    scorer = model.scorer
    assert model.scores(CONVERSATIONS[2:], tmp_path / "b", progress=False).scores[0].reward is not None
    assert model.scorer is scorer


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "parquet"])
def test_a_file_that_urm_score_wrote(folder, tmp_path, ending):
    data = write(tmp_path / "pairs.jsonl", PAIRS[::-1])  # in another order than is asked for
    out = tmp_path / f"scores.{ending}"
    assert main(["score", str(folder), "--data", data, "--out", str(out)]) == 0
    found = scores_of(str(out), CONVERSATIONS, tmp_path / "unused")
    expected = RewardScorer(str(folder)).score(CONVERSATIONS)
    assert found.kind == "scores"
    assert [score.reward for score in found.scores] == close([s.reward for s in expected])
    assert found.scores[1].attribute_means == close(expected[1].attribute_means)
    assert not (tmp_path / "unused").exists()


def test_several_names_are_an_ensemble(tmp_path):
    names = save_members(tmp_path, [tiny_urm(seed=seed) for seed in range(3)])
    found = scores_of(",".join(map(str, names)), CONVERSATIONS, tmp_path / "scores", progress=False)
    expected = RewardScorer(URMEnsemble.from_pretrained(list(map(str, names)))).score(CONVERSATIONS)
    assert found.kind == "ensemble"
    assert [s.reward_gap for s in found.scores] == close([s.reward_gap for s in expected])


def test_a_scalar_model_has_no_uncertainty(tmp_path):
    scalar = LlamaForSequenceClassification(tiny_backbone_config(num_labels=1))
    scalar.save_pretrained(tmp_path / "scalar")
    tiny_tokenizer().save_pretrained(tmp_path / "scalar")
    found = scores_of(str(tmp_path / "scalar"), CONVERSATIONS, tmp_path / "scores", progress=False)
    assert found.kind == "scalar" and found.attributes is None and found.scores[0].reward_std is None


def test_scores_of_other_data_are_refused(folder, tmp_path):
    data = write(tmp_path / "pairs.jsonl", PAIRS[:2])
    out = str(tmp_path / "scores.jsonl")
    assert main(["score", str(folder), "--data", data, "--out", out]) == 0
    origins = [f"pairs, row {number // 2}" for number in range(6)]
    with pytest.raises(ValueError, match=r"no score for 1 of 6 conversations, the first of them pairs, row 2"):
        # the rejected answer "no" to another prompt is another conversation, too
        scores_of(out, [*CONVERSATIONS[:4], CONVERSATIONS[4], CONVERSATIONS[0]], tmp_path, origins=origins)


def test_a_file_without_rewards_or_with_two_for_one_conversation(tmp_path):
    plain = write(tmp_path / "plain.jsonl", [CONVERSATIONS[0]])
    with pytest.raises(ValueError, match="row 0: `reward` is None"):
        scores_of(plain, CONVERSATIONS, tmp_path)
    twice = [CONVERSATIONS[0] | {"reward": 1.0}, CONVERSATIONS[0] | {"reward": 2.0}]
    with gzip.open(tmp_path / "twice.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in twice)
    with pytest.raises(ValueError, match=r"row 1: this conversation has the reward 2.0, but 1.0"):
        scores_of(str(tmp_path / "twice.jsonl.gz"), CONVERSATIONS, tmp_path)


def test_an_error_of_the_scorer_names_where_the_conversation_comes_from(folder, tmp_path):
    bad = {"prompt": [{"role": "user", "content": "Hi"}], "response": " "}
    with pytest.raises(ValueError, match=r"^pairs, row 3, rejected: .*conversations.jsonl, row 2:.*empty"):
        scores_of(
            str(folder),
            [CONVERSATIONS[0], CONVERSATIONS[0], CONVERSATIONS[1], bad],
            tmp_path / "scores",
            origins=["a", "b", "c", "pairs, row 3, rejected"],
            progress=False,
        )
