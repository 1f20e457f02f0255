"""
Train the members of an ensemble on a file of ratings, gate each on a file of pairs, and save them with the ensemble.

    python examples/ensemble_members.py --base HuggingFaceTB/SmolLM2-135M-Instruct --dtype bfloat16 \
        --ratings ratings.jsonl.gz --attributes correctness fluency --scale 0 100 --pairs pairs.jsonl.gz --out urme

Two kinds of members:

- by default the backbone is frozen and shared: members differ in seed, head initialisation, batch order, and in the
  training rows, of which each draws its own bootstrap sample (--same_rows: it does not);
- with --lora_epochs each is a LoRA adapter of the base: members differ in seed, initialisation and batch order, as the
  paper's do.

OUT/ensemble names the members in OUT/member-0, ... and runs the backbone once for all of them, or switches adapters.
"""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ratings_and_pairs import attribute_trainer, drawn, rated, rating_parser

from urm_hf.checkpoints.adapters import load_adapter, save_adapter_with_head
from urm_hf.data import load_rows
from urm_hf.modeling import URMEnsemble
from urm_hf.trainers import URMGatingConfig, URMGatingTrainer


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--loss_type", default="mle")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0, help="of the first member")
    parser.add_argument("--same_rows", action="store_true", help="frozen members all train on the same rows")
    parser.add_argument("--lora_epochs", type=float, help="train adapters (r=16) for so many epochs")
    parser.add_argument("--max_train_rows", type=int, help="of the ratings, drawn with seed 0")
    parser.add_argument("--max_train_pairs", type=int, help="of the pairs, drawn with seed 0")
    parser.add_argument("--gating_steps", type=int, default=1000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    names = [train_member(args, number) for number in range(args.members)]
    ensemble = URMEnsemble.from_pretrained(names, strategy="shared", dtype=args.dtype)
    ensemble.save_pretrained(args.out / "ensemble")
    print(f"Saved to {args.out / 'ensemble'}")


def train_member(args, number: int) -> str:
    """One member's two stages. Returns its folder: a checkpoint, or an adapter."""
    folder, seed = args.out / f"member-{number}", args.seed + number
    train, validation = (rated(load_rows(args.ratings, part), args.attributes) for part in ("train", "validation"))
    train = drawn(train, args.max_train_rows)
    if not args.lora_epochs and not args.same_rows:
        train = train.select(np.random.default_rng(seed).integers(0, len(train), len(train)))
    own = SimpleNamespace(**vars(args) | {"seed": seed, "out": folder})
    attributes = attribute_trainer(own, train, validation, data_seed=seed)
    attributes.train()
    attributes.save_model(str(folder))
    model = load_adapter(folder) if args.lora_epochs else attributes.model
    config = URMGatingConfig(
        str(folder),
        max_steps=args.gating_steps,
        seed=seed,
        data_seed=seed,
        save_strategy="no",
        report_to="none",
        use_cpu=not torch.cuda.is_available(),
    )
    gating = URMGatingTrainer(
        model,
        config,
        train_dataset=drawn(load_rows(args.pairs, "train"), args.max_train_pairs),
        eval_dataset=load_rows(args.pairs, "validation"),
        processing_class=attributes.processing_class,
    )
    gating.train()
    if args.lora_epochs:
        save_adapter_with_head(folder, model, folder)
    else:
        gating.save_model(str(folder))
    return str(folder)


if __name__ == "__main__":
    main()
