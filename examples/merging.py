"""
Does merging two seeds help? The question of the paper's Fig. 7 on a file of ratings.

    python examples/merging.py --base MODEL --ratings ratings.jsonl.gz --attributes correctness fluency --out merging

For each loss, two value heads that differ in seed (initialisation, batch order), their merge (mean of the weights) and
their ensemble (mean of the predictions), all measured on the test rows. With --lora_epochs adapters train as well, so
that the two seeds differ in their bodies, as the paper's do.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from datasets import Dataset
from ratings_and_pairs import drawn, predict, rated, rating_parser, train_attributes

from urm_hf import URMConfig, URMForRewardModeling, merge_checkpoints
from urm_hf.data import load_rows
from urm_hf.data.ratings import ratings_array, read_ratings
from urm_hf.modeling.distributions_urm import total_variance
from urm_hf.statistics.rating_metrics import attribute_metrics


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--lora_epochs", type=float, help="train LoRA adapters (r=16) for so many epochs instead")
    parser.add_argument("--max_train_rows", type=int, help="of the ratings, drawn with seed 0 for both models")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = {split: rated(load_rows(args.ratings, split), args.attributes) for split in ("train", "validation", "test")}
    # once for all: models whose label statistics differ cannot be merged
    data["train"] = drawn(data["train"], args.max_train_rows)
    truth = ratings_array([read_ratings(row, args.attributes) for row in data["test"]])
    print(f"{len(truth)} test conversations\n\n| loss | model | pearson | nll | mean sigma |\n|---|---|---|---|---|")
    for loss in ("deterministic", "regression", "mle"):
        for name, mu, sigma, config in compare(args, loss, data):
            found = attribute_metrics(mu, sigma, truth, args.attributes, config.label_means, config.label_stds)
            spread = np.mean(sigma / np.array(config.label_stds))
            print(f"| {loss} | {name} | {found['pearson']:.3f} | {found['nll']:.3f} | {spread:.3f} |", flush=True)


def compare(args, loss: str, data: dict[str, Dataset]) -> Iterator[tuple[str, np.ndarray, np.ndarray, URMConfig]]:
    """Predicted means and standard deviations, (N, n) each, of both seeds, their merge and their ensemble."""
    folders = {name: args.out / f"{loss}-{name.removeprefix('seed ')}" for name in ("seed 0", "seed 1", "merged")}
    for seed in (0, 1):
        folder = folders[f"seed {seed}"]
        run = SimpleNamespace(**vars(args) | {"loss_type": loss, "seed": seed, "out": folder})
        model, tokenizer = train_attributes(run, data["train"], data["validation"])
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    merge_checkpoints([folders["seed 0"], folders["seed 1"]], folders["merged"], log_std="average")
    means, stds = [], []
    for name, folder in folders.items():
        output = predict(URMForRewardModeling.from_pretrained(folder, dtype=args.dtype), tokenizer, data["test"])
        means.append(output.attribute_means)
        stds.append(output.attribute_stds)
        yield name, means[-1].numpy(), stds[-1].numpy(), model.config
    aleatoric, epistemic = total_variance(torch.stack(means[:2]), torch.stack(stds[:2]))
    yield "ensemble", torch.stack(means[:2]).mean(0).numpy(), (aleatoric + epistemic).sqrt().numpy(), model.config


if __name__ == "__main__":
    main()
