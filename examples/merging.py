"""
Does merging two seeds help? The question of the paper's Fig. 7 on a frozen backbone and a file of ratings.

    python examples/merging.py --base MODEL --ratings ratings.jsonl.gz --attributes correctness fluency --out merging

For each loss, two value heads that differ in seed (initialisation, batch order), their merge (mean of the weights) and
their ensemble (mean of the predictions), all measured on the test rows.
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ratings_and_pairs import predict, rated, train_attributes

from urm_hf import URMForRewardModeling, merge_checkpoints
from urm_hf.data import load_rows
from urm_hf.ratings import ratings_array, read_ratings
from urm_hf.trainers.metrics import attribute_metrics


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--dtype", default="float32", help="of the backbone")
    parser.add_argument("--ratings", required=True)
    parser.add_argument("--attributes", nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    data = {split: rated(load_rows(args.ratings, split), args.attributes) for split in ("train", "validation", "test")}
    truth = ratings_array([read_ratings(row, args.attributes) for row in data["test"]])
    print(f"{len(truth)} test conversations\n\n| loss | model | pearson | nll | mean sigma |\n|---|---|---|---|---|")
    for loss in ("deterministic", "regression", "mle"):
        folders = []
        for seed in (0, 1):
            settings = {"loss_type": loss, "seed": seed, "scale": None, "lora_epochs": None, "max_train_rows": None}
            folder = args.out / f"{loss}-{seed}"
            run = SimpleNamespace(**{**vars(args), **settings, "out": folder})
            model, tokenizer = train_attributes(run, data["train"], data["validation"])
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders.append(str(folder))
        merge_checkpoints(folders, args.out / f"{loss}-merged", log_std="average")
        outputs = {
            name: predict(URMForRewardModeling.from_pretrained(folder, dtype=args.dtype), tokenizer, data["test"])
            for name, folder in {
                "seed 0": folders[0],
                "seed 1": folders[1],
                "merged": str(args.out / f"{loss}-merged"),
            }.items()
        }
        config = model.config
        predictions = {name: (o.attribute_means.numpy(), o.attribute_stds.numpy()) for name, o in outputs.items()}
        means, stds = (torch.stack([outputs[s][f] for s in ("seed 0", "seed 1")]) for f in FIELDS)
        total = stds.square().mean(0) + means.var(0, correction=0)
        predictions["ensemble"] = (means.mean(0).numpy(), total.sqrt().numpy())
        for name, (mu, sigma) in predictions.items():
            found = attribute_metrics(mu, sigma, truth, args.attributes, config.label_means, config.label_stds)
            spread = np.mean(sigma / np.array(config.label_stds))
            print(f"| {loss} | {name} | {found['pearson']:.3f} | {found['nll']:.3f} | {spread:.3f} |", flush=True)


FIELDS = ("attribute_means", "attribute_stds")

if __name__ == "__main__":
    main()
