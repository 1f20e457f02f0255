"""Settings of short runs of the attribute stage, and what they are compared with."""

import numpy as np
import torch
from scipy import stats

from tests.helpers.tiny import pad_rows, tiny_tokenizer, tiny_urm
from tests.helpers.training import ATTRIBUTES, whole_batch

FROZEN = {"freeze_backbone": True, "num_train_epochs": 3, "per_device_train_batch_size": 4}


@torch.no_grad()
def forward(model, rows: list[dict]):
    """Outputs for the texts of rows, each computed alone."""
    ids = tiny_tokenizer()([row["text"] for row in rows], add_special_tokens=False)["input_ids"]
    outputs = [model(**pad_rows([row])) for row in ids]
    return [torch.cat([output[name] for output in outputs]).numpy() for name in ("attribute_means", "attribute_stds")]


def ratings_of(rows: list[dict]) -> np.ndarray:
    return np.array([[row[name] for name in ATTRIBUTES] for row in rows], dtype=float)


def nll(rows: list[dict], model=None) -> np.ndarray:
    """-log N(s; mu, sigma^2) of rows with one rating an attribute, (N, n), by scipy."""
    means, stds = forward(model or tiny_urm(attributes=ATTRIBUTES), rows)
    return -stats.norm.logpdf(ratings_of(rows), means, stds)


def loss_of_all(trainer) -> torch.Tensor:
    trainer.model.train()
    return trainer.compute_loss(trainer.model, whole_batch(trainer))
