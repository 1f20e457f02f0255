"""
Do calibrated intervals hold the ratings that they say? All prompts of a file in turn, in six folds.

    python examples/interval_coverage.py --base HuggingFaceTB/SmolLM2-135M-Instruct --dtype bfloat16 \
        --ratings ratings.jsonl.gz --attributes correctness fluency --out coverage

For each sixth of the prompts a URM trains on the others (half of another sixth chooses its best head), on a frozen
backbone, which fits its posterior and its intervals. The test part of a file alone often has too few prompts to tell 3
points: here every prompt is held out once. Printed are, over all ratings, the shares that sigma's intervals, as a
Gaussian's, and the calibrated ones hold: the attribute that is furthest off, and the mean over attributes; and their
mean width in standard deviations of the ratings.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from datasets import concatenate_datasets
from ratings_and_pairs import attribute_trainer, rated, rating_parser
from scipy.special import ndtri

from urm_hf.data import load_rows
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.ratings import ratings_array, read_ratings
from urm_hf.scoring.features import output_of_cached
from urm_hf.uncertainty.conformal import assign_folds

FOLDS = 6


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--loss_type", default="mle")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    parts = [rated(load_rows(args.ratings, part), args.attributes) for part in ("train", "validation", "test")]
    rows = concatenate_datasets(parts)
    prompts = [json.dumps(row["prompt"]) for row in rows]
    folds = assign_folds(prompts, FOLDS, args.seed)
    truth = ratings_array([read_ratings(row, args.attributes) for row in rows])  # (N, n, R)
    inside: dict = {}
    widths: dict = {}
    for fold in range(FOLDS):
        test = np.flatnonzero(folds == fold)
        for kind, level, low, high in predict(args, rows, prompts, folds, fold, test):
            held = (low[..., None] <= truth[test]) & (truth[test] <= high[..., None])
            inside.setdefault((kind, level), []).append(np.where(np.isnan(truth[test]), np.nan, held))
            widths.setdefault((kind, level), []).append((high - low) / np.nanstd(truth, axis=(0, 2)))
    report(args, len(rows), len(set(prompts)), inside, widths)


def predict(args, rows, prompts, folds, fold: int, test: np.ndarray):
    """Kind, level, lower and upper ends (N, n) of the intervals of a model that never saw the prompts of a fold."""
    others = sorted({prompts[row] for row in np.flatnonzero(folds == (fold + 1) % FOLDS)})
    chooses = set(others[: max(len(others) // 2, 1)])
    is_known = folds != fold
    validation = [row for row in np.flatnonzero(is_known) if prompts[row] in chooses]
    train = [row for row in np.flatnonzero(is_known) if prompts[row] not in chooses]
    own = SimpleNamespace(**vars(args), lora_epochs=None)
    trainer = attribute_trainer(own, rows.select(train), rows.select(validation))
    trainer.train()
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    ids = [encode_conversation(tokenizer, rows[int(row)]) for row in test]
    with torch.no_grad():
        output = output_of_cached(model, ids, tokenizer.pad_token_id)
    means, stds = output.attribute_means.numpy(), output.attribute_stds.numpy()
    for place, level in enumerate(model.config.interval_factors):
        half = ndtri((1 + float(level)) / 2) * stds
        yield "sigma, as a Gaussian", level, means - half, means + half
        ends = output.attribute_intervals[:, place].numpy()  # (N, n, 2)
        yield "calibrated", level, ends[..., 0], ends[..., 1]


def report(args, n: int, n_prompts: int, inside: dict, widths: dict):
    print(f"\n{n} conversations, {n_prompts} prompts, each held out once, seed {args.seed}\n")
    levels = list(dict.fromkeys(level for _, level in inside))
    print(f"| | {' | '.join(f'{float(level):.0%}' for level in levels)} |\n|---|{'---|' * len(levels)}")
    found: dict = {}
    for kind in dict.fromkeys(kind for kind, _ in inside):
        cells = []
        for level in levels:
            shares = np.nanmean(np.concatenate(inside[kind, level]), axis=(0, 2))  # (n,)
            worst, width = shares[np.argmax(np.abs(shares - float(level)))], np.concatenate(widths[kind, level]).mean()
            cells.append(f"{worst:.1%} (mean {shares.mean():.1%}, width {width:.2f})")
            found.setdefault(kind, {})[level] = {"shares": shares.tolist(), "width": float(width)}
        print(f"| {kind} | {' | '.join(cells)} |")
    (args.out / "results.json").write_text(json.dumps({"n": n, "prompts": n_prompts, "found": found}, indent=1))


if __name__ == "__main__":
    main()
