"""Conversations that have much in common, and their rewards one at a time."""

import random

import torch

from tests.helpers.tiny import pad_rows, tiny_tokenizer
from urm_hf import RewardScorer


def tree(seed: int) -> list[list[int]]:
    """Sequences that branch off from one another at random places; some end where others go on."""
    rng = random.Random(seed)
    rows = [[rng.randrange(256) for _ in range(rng.randint(1, 40))] for _ in range(3)]
    for _ in range(12):
        parent = rng.choice(rows)
        rows.append(parent[: rng.randint(0, len(parent))] + [rng.randrange(256) for _ in range(rng.randint(1, 20))])
    return sorted(map(list, set(map(tuple, rows))))


def branching(seed: int, count: int = 30) -> list[dict]:
    """Token ids of conversations that branch off from one another anywhere, with some said twice."""
    rng = random.Random(seed)
    rows = [[rng.randrange(256) for _ in range(rng.randint(20, 80))] for _ in range(3)]
    while len(rows) < count:
        parent = rng.choice(rows)
        rows.append(parent[: rng.randint(0, len(parent))] + [rng.randrange(256) for _ in range(rng.randint(0, 40))])
        rows = [row for row in rows if row]
    return [{"input_ids": row} for row in rng.sample(rows, count)]


@torch.no_grad()
def rewards_alone(model, rows) -> list[float]:
    ids = RewardScorer(model, tiny_tokenizer()).encode(rows)[0]
    return [model(**pad_rows([row])).logits.item() for row in ids]


def rewards(scores) -> list[float]:
    return [score.reward for score in scores]
