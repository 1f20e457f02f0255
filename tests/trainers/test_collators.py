"""What a batch holds, against TRL's collator and by hand."""

import numpy as np
import pytest
import torch
from trl.trainer.reward_trainer import DataCollatorForPreference

from tests.helpers.tiny import PAD
from urm_hf.scoring.features import Features
from urm_hf.trainers.collators import DataCollatorForCachedPreference, DataCollatorForRatings

NAN = float("nan")
RATED = [
    {"input_ids": [1, 2, 3], "ratings": [[3.0, 4.0], [1.0, NAN]], "weight": 1.0},
    {"input_ids": [4], "ratings": [[0.0, NAN], [NAN, NAN]], "weight": 0.5},
]
PAIRS = [
    {"chosen_ids": [1, 2, 3], "rejected_ids": [4, 5]},
    {"chosen_ids": [6, 7], "rejected_ids": [8]},
]
CACHED = [
    {"chosen_feature": 0, "rejected_feature": 3, "feature_file": "train"},
    {"chosen_feature": 2, "rejected_feature": 0, "feature_file": "train"},
]


def features(offset: int = 0) -> Features:
    """Four hidden states of size 2 in two files: row i is [offset + i, -offset - i]."""
    rows = np.array([[offset + i, -offset - i] for i in range(4)], dtype=np.float32)
    return Features([rows[:2], rows[2:]], np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))


FEATURES = {"train": features(), "eval": features(10)}


def test_rated_conversations_are_padded_on_the_right():
    batch = DataCollatorForRatings(PAD)(RATED)
    assert batch["input_ids"].tolist() == [[1, 2, 3], [4, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_ratings_keep_their_gaps():
    ratings = DataCollatorForRatings(PAD)(RATED)["ratings"]
    expected = torch.tensor([[[3.0, 4.0], [1.0, NAN]], [[0.0, NAN], [NAN, NAN]]])
    torch.testing.assert_close(ratings, expected, equal_nan=True)


def test_ratings_and_weights_are_float32():
    batch = DataCollatorForRatings(PAD)(RATED)
    assert (batch["ratings"].dtype, batch["weight"].dtype) == (torch.float32, torch.float32)


def test_weights_are_those_of_the_rows():
    assert DataCollatorForRatings(PAD)(RATED)["weight"].tolist() == [1.0, 0.5]


def test_rows_of_unequal_numbers_of_ratings_make_a_batch():
    """As a streaming dataset gives them, whose largest number of annotators is not known."""
    rows = [
        {"input_ids": [1], "ratings": [[3.0, 4.0], []], "weight": 1.0},
        {"input_ids": [2], "ratings": [[1.0], [2.0]], "weight": 1.0},
    ]
    ratings = DataCollatorForRatings(PAD)(rows)["ratings"]
    expected = torch.tensor([[[3.0, 4.0], [NAN, NAN]], [[1.0, NAN], [2.0, NAN]]])
    torch.testing.assert_close(ratings, expected, equal_nan=True)


def test_indices_become_hidden_states_and_no_tokens():
    examples = [
        {"feature": 3, "feature_file": "train", "ratings": [[1.0]], "weight": 1.0},
        {"feature": 0, "feature_file": "train", "ratings": [[2.0]], "weight": 1.0},
    ]
    batch = DataCollatorForRatings(PAD, FEATURES)(examples)
    assert batch["pooled_hidden"].tolist() == [[3.0, -3.0], [0.0, 0.0]]
    assert sorted(batch) == ["pooled_hidden", "ratings", "weight"]


def test_indices_are_looked_up_in_the_named_dataset():
    examples = [{"feature": 1, "feature_file": "eval", "ratings": [[1.0]], "weight": 1.0}]
    assert DataCollatorForRatings(PAD, FEATURES)(examples)["pooled_hidden"].tolist() == [[11.0, -11.0]]


@pytest.mark.parametrize("margin", [False, True], ids=["plain", "with margin"])
@pytest.mark.parametrize("multiple", [None, 8])
def test_pairs_of_tokens_are_batched_as_in_trl(margin, multiple):
    examples = [pair | ({"margin": 0.5 * row} if margin else {}) for row, pair in enumerate(PAIRS)]
    batch = DataCollatorForCachedPreference(PAD, multiple)(examples)
    torch.testing.assert_close(batch, DataCollatorForPreference(PAD, multiple)(examples))


def test_cached_pairs_are_hidden_states_with_the_chosen_first():
    batch = DataCollatorForCachedPreference(PAD, features=FEATURES)(CACHED)
    assert batch["pooled_hidden"].tolist() == [[0.0, 0.0], [2.0, -2.0], [3.0, -3.0], [0.0, 0.0]]
    assert "input_ids" not in batch and "margin" not in batch


def test_cached_pairs_keep_their_margins():
    examples = [example | {"margin": margin} for example, margin in zip(CACHED, [0.25, 2.0])]
    assert DataCollatorForCachedPreference(PAD, features=FEATURES)(examples)["margin"].tolist() == [0.25, 2.0]


def test_cached_pairs_count_no_tokens():
    mask = DataCollatorForCachedPreference(PAD, features=FEATURES)(CACHED)["attention_mask"]
    assert mask.shape == (4, 0) and mask.sum() == 0
