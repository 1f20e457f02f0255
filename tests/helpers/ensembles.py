"""An ensemble of three members, and what each gives alone."""

import torch

from tests.helpers.tiny import pad_rows, random_rows
from tests.helpers.tolerances import assert_close
from urm_hf.modeling import URMEnsembleOutput

ROWS = random_rows([5, 12, 3, 8])
SEEDS = [0, 1, 2]
FIELDS = {
    "logits": (4, 1),
    "rewards": (3, 4),
    "reward_std": (4,),
    "reward_gap": (4,),
    "covariance_norm": (4,),
    "attribute_gap": (4, 5),
    "attribute_means": (3, 4, 5),
    "attribute_stds": (3, 4, 5),
    "gating_weights": (3, 4, 5),
    "aleatoric_variance": (4, 5),
    "epistemic_variance": (4, 5),
    "disagreement_variance": (4, 5),
    "reward_epistemic_std": (4,),
}


@torch.no_grad()
def run(model, rows=ROWS, **kwargs) -> URMEnsembleOutput:
    return model(**pad_rows(rows), **kwargs)


def assert_equal_outputs(actual: URMEnsembleOutput, expected: URMEnsembleOutput):
    assert list(actual) == list(expected) == list(FIELDS)
    for name in FIELDS:
        assert_close(actual[name], expected[name], msg=name)
