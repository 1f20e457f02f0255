"""Both ways of computing the area are that of comparing every positive with every negative, and sklearn's."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from urm_hf.statistics.auroc import compute_auroc, compute_auroc_of_counts

RNG = np.random.default_rng(0)
NEGATIVES, POSITIVES = RNG.integers(0, 9, 70).astype(float), RNG.integers(3, 12, 40).astype(float)


def test_it_is_the_share_of_won_comparisons():
    won = (POSITIVES[:, None] > NEGATIVES).mean() + (POSITIVES[:, None] == NEGATIVES).mean() / 2
    assert compute_auroc(NEGATIVES, POSITIVES) == pytest.approx(won)
    truth = np.repeat([0, 1], [70, 40])
    assert won == pytest.approx(roc_auc_score(truth, np.concatenate([NEGATIVES, POSITIVES])))


def test_counts_of_sorted_values_give_the_same():
    values = np.unique(np.concatenate([NEGATIVES, POSITIVES]))
    counts = [(side[:, None] == values).sum(0) for side in (NEGATIVES, POSITIVES)]
    assert compute_auroc_of_counts(*counts) == pytest.approx(compute_auroc(NEGATIVES, POSITIVES))


def test_of_one_side_alone_there_is_none():
    assert np.isnan(compute_auroc_of_counts(np.array([[2, 1]]), np.array([[0, 0]]))).all()
