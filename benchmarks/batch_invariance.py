"""
How much a reward depends on what is scored with it, in float32 and bfloat16.

    python benchmarks/batch_invariance.py [--base MODEL ...] [--widths 64 256 576] [--rows 32]

Conversations of 8 to 96 random tokens, half of them with 20 tokens in common, are scored each alone and then all
together: by the scorer, and by the model in padded batches of 16. Printed is the largest difference of a reward
between the two, in percent of the standard deviation of all rewards, and for scale what bfloat16 itself changes: the
largest difference from the float32 rewards of conversations that are alone. Models have random weights, four layers
and the given width; `--base` adds those of causal language models, under a random head.
"""

import argparse
from collections.abc import Sequence

import torch
from transformers import LlamaConfig

from urm_hf import RewardScorer, URMConfig, URMForRewardModeling
from urm_hf.scoring.engine.padding import pad_batch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
BATCH = 16  # conversations of a padded batch
Ids = list[list[int]]


class NoTokenizer:
    """Stands for a tokenizer where conversations are token ids already."""

    pad_token_id = eos_token_id = 0


def make_conversations(count: int, vocabulary: int) -> Ids:
    """Token ids; every other conversation begins with the same 20."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(8, 96, (count,), generator=generator).tolist()
    rows = [torch.randint(10, vocabulary, (length,), generator=generator).tolist() for length in lengths]
    beginning = torch.randint(10, vocabulary, (20,), generator=generator).tolist()
    return [beginning + row if number % 2 else row for number, row in enumerate(rows)]


def build_urm(width: int) -> URMForRewardModeling:
    """Random weights, as large relative to the width as those of a trained model, so that rewards differ."""
    torch.manual_seed(0)
    backbone = LlamaConfig(
        vocab_size=4000,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=4,
        num_attention_heads=width // 32,
        num_key_value_heads=width // 32,
        initializer_range=0.8 * width**-0.5,
    )
    return with_random_head(URMForRewardModeling(URMConfig(backbone_config=backbone)))


def read_urm(base: str) -> URMForRewardModeling:
    """A head on the backbone of a causal language model."""
    torch.manual_seed(0)
    return with_random_head(URMForRewardModeling.from_backbone(base, dtype=torch.float32))


@torch.no_grad()
def with_random_head(model: URMForRewardModeling) -> URMForRewardModeling:
    model.score.value.weight.normal_(std=model.score.value.in_features**-0.5)
    return model.eval()


@torch.inference_mode()
def score_padded(model: URMForRewardModeling, rows: Ids, size: int) -> torch.Tensor:
    starts = range(0, len(rows), size)
    return torch.cat([model(**pad_batch(rows[start : start + size], 0)).logits[:, 0] for start in starts])


def score_with_engine(scorer: RewardScorer, rows: Ids) -> torch.Tensor:
    return torch.tensor([score.reward for score in scorer.score_ids(rows)])


def compare(name: str, model: URMForRewardModeling, rows: Ids):
    """A line of the table for each dtype."""
    exact = score_padded(model, rows, 1)
    for dtype, torch_dtype in DTYPES.items():
        model.model.to(torch_dtype)  # the head stays float32, as it does when a URM is loaded
        scorer = RewardScorer(model, NoTokenizer())
        alone = torch.cat([score_with_engine(scorer, [row]) for row in rows])
        together = score_with_engine(scorer, rows)
        padded_alone, padded = score_padded(model, rows, 1), score_padded(model, rows, BATCH)
        cells = [
            name,
            dtype,
            f"{exact.std():.2f}",
            percent(together - alone, exact),
            percent(padded - padded_alone, exact),
            percent(alone - exact, exact),
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


def percent(difference: torch.Tensor, rewards: torch.Tensor) -> str:
    """The largest difference, of the standard deviation of rewards."""
    return f"{100 * float(difference.abs().max() / rewards.std()):.2g} %"


def main(argv: Sequence[str] | None = None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", nargs="*", default=[], help="Causal language models: repositories or folders.")
    parser.add_argument("--widths", nargs="*", type=int, default=[64, 256, 576], help="Hidden sizes of random models.")
    parser.add_argument("--rows", type=int, default=32, help="Conversations.")
    args = parser.parse_args(argv)
    models = [(f"random, {width} wide", build_urm(width)) for width in args.widths]
    models += [(base.rstrip("/").rpartition("/")[2], read_urm(base)) for base in args.base]
    print("| model | dtype | std of rewards | scorer | padded batches | from float32 |")
    print("|---|---|---|---|---|---|")
    for name, model in models:
        compare(name, model, make_conversations(args.rows, model.config.vocab_size))


if __name__ == "__main__":
    main()
