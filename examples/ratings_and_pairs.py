"""
Train a URM on a file of ratings, gate it on a file of pairs, and measure it on the test rows of both.

    python examples/ratings_and_pairs.py --base HuggingFaceTB/SmolLM2-135M-Instruct \
        --ratings ratings.jsonl.gz --attributes correctness fluency --scale 0 100 --pairs pairs.jsonl.gz --out urm

Both files have a column `split` with train, validation and test. The backbone is frozen: every conversation passes it
once, the hidden states stay in a cache, and the heads train on them. With --lora_epochs an adapter trains instead.
Prints a table and writes OUT/results.json. Intervals are 95 % percentiles of 2000 bootstrap samples of prompts.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig
from transformers import PreTrainedTokenizerBase

from urm_hf.data import load_rows
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.ratings import is_rated, ratings_array, read_ratings
from urm_hf.hub.card.result_files import MODEL, build_short_results
from urm_hf.modeling import URMForRewardModeling, URMOutput
from urm_hf.scoring.features import output_of_cached
from urm_hf.statistics.bootstrap import bootstrap_intervals, rows_by_group
from urm_hf.statistics.rating_metrics import attribute_metrics
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer

REPORTED = ("pearson", "nll", "censored_nll", "spread_pearson", "coverage68", "coverage95")


def rating_parser(about: str | None) -> argparse.ArgumentParser:
    """A parser of what every training on a file of ratings is told."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--dtype", default="float32", help="of the backbone")
    parser.add_argument("--ratings", required=True)
    parser.add_argument("--attributes", nargs="+", required=True)
    parser.add_argument(
        "--scale", nargs="+", type=float, help="min, max and, if there is one, step of every attribute"
    )
    return parser


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--loss_type", default="mle")
    parser.add_argument("--pairs")
    parser.add_argument("--lora_epochs", type=float, help="train LoRA adapters (r=16) for so many epochs instead")
    parser.add_argument("--max_train_rows", type=int, help="of the ratings, drawn with the seed")
    parser.add_argument("--bootstrap_samples", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    model, tokenizer, results = attribute_stage(args)
    if args.pairs:
        results |= gating_stage(args, model, tokenizer)
    model.save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)
    results |= {"seed": args.seed, "base": args.base, "dtype": args.dtype, "loss_type": args.loss_type}
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"\nSaved to {args.out}")


def attribute_trainer(args, train, validation, **more) -> URMAttributeTrainer:
    """For heads on the frozen backbone, or for an adapter; `more` settings."""
    settings = {"freeze_backbone": True}
    peft_config = None
    if args.lora_epochs:
        targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        peft_config = LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, target_modules=targets)
        settings = {"num_train_epochs": args.lora_epochs, "learning_rate": 5e-4, "warmup_steps": 10, "bf16": True}
    config = URMAttributeConfig(
        str(args.out),
        attributes=args.attributes,
        attribute_scales={name: args.scale for name in args.attributes} if args.scale else None,
        loss_type=args.loss_type,
        seed=args.seed,
        model_init_kwargs={"dtype": args.dtype},
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
        **settings,
        **more,
    )
    return URMAttributeTrainer(
        args.base, config, train_dataset=train, eval_dataset=validation, peft_config=peft_config
    )


def train_attributes(args, train, validation) -> tuple[URMForRewardModeling, PreTrainedTokenizerBase]:
    trainer = attribute_trainer(args, drawn(train, args.max_train_rows, args.seed), validation)
    trainer.train()
    model = trainer.model.merge_and_unload() if args.lora_epochs else trainer.model
    return model, trainer.processing_class


def attribute_stage(args) -> tuple[URMForRewardModeling, PreTrainedTokenizerBase, dict]:
    data = {split: rated(load_rows(args.ratings, split), args.attributes) for split in ("train", "validation", "test")}
    model, tokenizer = train_attributes(args, data["train"], data["validation"])
    urm = model.config
    ratings = [read_ratings(row, args.attributes) for row in data["test"]]
    output = predict(model, tokenizer, data["test"])
    means, stds, truth = output.attribute_means.numpy(), output.attribute_stds.numpy(), ratings_array(ratings)
    constant = np.broadcast_to(np.float32(urm.label_means), means.shape)
    spread = np.broadcast_to(np.float32(urm.label_stds), means.shape)

    def measure(rows: np.ndarray, predicted=(means, stds)) -> dict[str, float]:
        mu, sigma = predicted
        settings = (args.attributes, urm.label_means, urm.label_stds, urm.attribute_scales)
        return attribute_metrics(mu[rows], sigma[rows], truth[rows], *settings)

    clusters = prompt_clusters(data["test"])
    ours, low_high = measure(np.arange(len(truth))), bootstrap(args, measure, clusters)
    base = measure(np.arange(len(truth)), (constant, spread))
    gained = lambda rows: {"gain": measure(rows, (constant, spread))["nll"] - measure(rows)["nll"]}  # noqa: E731
    gain = bootstrap(args, gained, clusters)
    print(f"\nTest: {len(truth)} conversations, {len(clusters)} prompts, {int((~np.isnan(truth)).sum())} ratings")
    for name in (f"{metric}{suffix}" for metric in REPORTED for suffix in ("", *(f"/{a}" for a in args.attributes))):
        if name in ours:
            interval = "[{:.3f}, {:.3f}]".format(*low_high[name])
            print(f"  {name:<32} {ours[name]:.3f} {interval}   constant {base.get(name, float('nan')):.3f}")
    print(
        "  nll gained on the constant       {:.3f} [{:.3f}, {:.3f}]".format(base["nll"] - ours["nll"], *gain["gain"])
    )
    return (
        model,
        tokenizer,
        build_short_results(ours, low_high, len(truth)) | {"constant": base, "nll_gain": gain["gain"]},
    )


def gating_stage(args, model, tokenizer) -> dict:
    data = {split: load_rows(args.pairs, split) for split in ("train", "validation", "test")}
    config = URMGatingConfig(str(args.out), seed=args.seed, save_strategy="no", report_to="none")
    before = pair_margins(model, tokenizer, data["test"])
    trainer = URMGatingTrainer(
        model, config, train_dataset=data["train"], eval_dataset=data["validation"], processing_class=tokenizer
    )
    trainer.train()
    longer = np.array([len(row["chosen"]) - len(row["rejected"]) for row in data["test"]])
    margins = {MODEL: pair_margins(model, tokenizer, data["test"]), "equal weights": before, "length only": longer}
    clusters = prompt_clusters(data["test"])
    results = {}
    print(f"\nTest: {len(longer)} pairs, {len(clusters)} prompts; ties count as wrong")
    for name, margin in margins.items():
        won = margin > 0
        interval = bootstrap(args, lambda rows, won=won: {"accuracy": won[rows].mean()}, clusters)["accuracy"]
        results[name] = {
            "accuracy": float((margin > 0).mean()),
            "interval": interval,
            "ties": int((margin == 0).sum()),
        }
        print(f"  {name:<14} {results[name]['accuracy']:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]")
    return {"pairs": results, "n_pairs": len(longer)}


def predict(model, tokenizer, rows) -> URMOutput:
    ids = [encode_conversation(tokenizer, row) for row in rows]
    return output_of_cached(model, ids, tokenizer.pad_token_id)


def pair_margins(model, tokenizer, rows) -> np.ndarray:
    """Reward of the chosen less that of the rejected answer, (N,)."""
    ids = [encode_conversation(tokenizer, row, column) for column in ("chosen", "rejected") for row in rows]
    chosen, rejected = output_of_cached(model, ids, tokenizer.pad_token_id).logits[:, 0].chunk(2)
    return (chosen - rejected).numpy()


def rated(rows, attributes: list[str]):
    """Rows with at least one rating; how many have none is said."""
    kept = [i for i, row in enumerate(rows) if is_rated(row, attributes)]
    if len(kept) < len(rows):
        print(f"left out {len(rows) - len(kept)} of {len(rows)} rows without a rating")
    return rows.select(kept)


def drawn(rows, most: int | None, seed: int = 0):
    """All rows, or so many of them."""
    return rows.shuffle(seed=seed).select(range(most)) if most and most < len(rows) else rows


def prompt_clusters(rows) -> list[np.ndarray]:
    """Row numbers by prompt."""
    return rows_by_group(json.dumps(row["prompt"]) for row in rows)


def bootstrap(
    args, measure: Callable[[np.ndarray], dict[str, float]], clusters: list[np.ndarray]
) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals over samples of whole prompts."""
    return bootstrap_intervals(measure, clusters, args.bootstrap_samples, args.seed)


if __name__ == "__main__":
    main()
