"""The data of the gating stage: pairs in every form, pairs that are refused."""

import pytest
from datasets import Dataset
from trl import RewardConfig, RewardTrainer

from tests.helpers.tiny import tiny_tokenizer, tiny_urm
from tests.helpers.training import QUIET, gating_trainer, pair_rows

USER, GOOD, BAD = (
    {"role": role, "content": content}
    for role, content in [("user", "hi there"), ("assistant", "yes"), ("assistant", "no")]
)


# Forms of data


FORMS = {
    "implicit prompt": {"chosen": [USER, GOOD], "rejected": [USER, BAD]},
    "explicit prompt": {"prompt": [USER], "chosen": [GOOD], "rejected": [BAD]},
    "text": {"chosen": "hi there yes", "rejected": "hi there no"},
    "text with a prompt": {"prompt": "hi there ", "chosen": "yes", "rejected": "no"},
    "text that ends": {"prompt": "hi there ", "chosen": "yes<|im_end|>", "rejected": "no"},
}


def token_ids(trainer) -> list[list[int]]:
    return [list(trainer.train_dataset[column][0]) for column in ("chosen_ids", "rejected_ids")]


@pytest.mark.parametrize("form", FORMS)
def test_pairs_are_encoded_as_in_trl(tmp_path, form):
    rows = Dataset.from_list([FORMS[form]])
    args = RewardConfig(str(tmp_path), bf16=False, **QUIET)
    trl = RewardTrainer(tiny_urm(), args, train_dataset=rows, processing_class=tiny_tokenizer())
    assert token_ids(gating_trainer(tmp_path, rows, cache_features=False)) == token_ids(trl)


PUBLISHED = {
    "votes": {"prompt": "hi there", "response_a": "no", "response_b": "yes", "preferred": "b"},
    "ranked": {"prompt": [USER], "candidates": [{"response": "no", "score": 0}, {"response": "yes", "score": 1}]},
    "PKU-SafeRLHF": {
        "prompt": "hi there",
        "response_0": "no",
        "response_1": "yes",
        "better_response_id": 1,
        "safer_response_id": 1,
    },
}


@pytest.mark.parametrize("form", PUBLISHED)
def test_rows_as_they_are_published_are_pairs(tmp_path, form):
    expected = gating_trainer(tmp_path, [FORMS["explicit prompt"]], cache_features=False)
    found = gating_trainer(tmp_path, [PUBLISHED[form]], cache_features=False)
    assert token_ids(found) == token_ids(expected)


def test_ties_are_left_out_and_others_keep_their_numbers(tmp_path, caplog):
    vote = PUBLISHED["votes"]
    rows = [vote | {"preferred": "tie"}, vote, vote | {"response_b": " "}]
    with pytest.raises(ValueError, match="row 2 of the train dataset"):
        gating_trainer(tmp_path, rows, cache_features=False)
    assert "left out 1 of 3 rows that prefer no answer: 1 because `preferred` is 'tie'" in caplog.text


def test_answers_may_be_strings_beside_prompt_messages(tmp_path):
    mixed = {"prompt": [USER], "chosen": GOOD["content"], "rejected": BAD["content"]}
    encoded = [
        token_ids(gating_trainer(tmp_path, [row], cache_features=False)) for row in (mixed, FORMS["implicit prompt"])
    ]
    assert encoded[0] == encoded[1]


def test_pairs_that_are_token_ids_already_are_taken_as_they_are(tmp_path):
    row = {"chosen_ids": [1, 2, 3], "rejected_ids": [4, 5]}
    assert token_ids(gating_trainer(tmp_path, [row], cache_features=False)) == [[1, 2, 3], [4, 5]]


REFUSED = {
    "empty answer": ({"chosen": [USER, GOOD | {"content": ""}]}, r"message 1 \(assistant\) is empty"),
    "no answer": ({"rejected": [USER]}, "the last message has the role 'user'"),
    "null": ({"chosen": None}, "`chosen` is empty"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_pair_is_refused_with_its_number_and_reason(tmp_path, case):
    bad, reason = REFUSED[case]
    good = FORMS["implicit prompt"]
    with pytest.raises(ValueError, match=f"row 1 of the train dataset: .*{reason}"):
        gating_trainer(tmp_path, [good, good | bad])


@pytest.mark.parametrize("margin", [float("nan"), None])
def test_a_margin_that_is_not_a_number_is_refused(tmp_path, margin):
    with pytest.raises(ValueError, match="row 1 of the train dataset: .*margin"):
        gating_trainer(tmp_path, pair_rows(3, margin=[0.0, margin, 1.0]))


def test_a_pair_with_one_long_side_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="row 0 of the train dataset: the conversation has .* max_length=9"):
        gating_trainer(tmp_path, pair_rows(), max_length=9)


def test_a_pair_with_one_long_side_is_dropped_whole(tmp_path):
    rows = [FORMS["text"], {"chosen": "x" * 50, "rejected": "y"}]
    trainer = gating_trainer(tmp_path, rows, max_length=30, truncation="drop", cache_features=False)
    assert len(trainer.train_dataset) == 1
    assert token_ids(trainer)[1] == tiny_tokenizer()("hi there no<|im_end|>")["input_ids"]
