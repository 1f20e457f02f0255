"""
Train a scalar reward model by the Bradley-Terry loss, as TRL does, in a fraction of its time.

    python examples/train_reward_model.py --base HuggingFaceTB/SmolLM2-135M-Instruct --pairs pairs.jsonl --out reward

With --compare TRL's `RewardTrainer` takes the same steps on the same rows. Both times are printed, and OUT/losses.png
shows the two curves, which lie on each other. With --urm the model is a URM with fresh heads, all of which trains.
Conversations of more than 512 tokens are left out.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from urm_hf.data import load_rows
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers import URMRewardConfig, URMRewardTrainer


def load_model(base: str, urm: bool) -> Any:
    """Fresh heads, the same in every call."""
    torch.manual_seed(0)
    if urm:
        return URMForRewardModeling.from_backbone(base, dtype=torch.float32)
    return AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)


def train(trainer: type, config: type, args: argparse.Namespace, rows: Dataset, **more: Any) -> tuple[Any, float]:
    """The trainer after its steps, and the processor seconds that they took."""
    settings = config(
        str(args.out),
        max_steps=args.steps,
        per_device_train_batch_size=args.batch,
        learning_rate=args.learning_rate,
        max_length=512,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=args.seed,
        data_seed=args.seed,
        bf16=torch.cuda.is_available(),
        **more,
    )
    model, tokenizer = load_model(args.base, args.urm), AutoTokenizer.from_pretrained(args.base)
    made = trainer(model, settings, train_dataset=rows, processing_class=tokenizer)
    # both have rows of token ids by now, so that only the steps are measured
    started = time.process_time() if not torch.cuda.is_available() else time.perf_counter()
    made.train()
    return made, (time.process_time() if not torch.cuda.is_available() else time.perf_counter()) - started


def read_losses(trainer: Any) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def plot(ours: list[float], theirs: list[float], path: Path) -> None:
    """Both curves; TRL's is the wide one below."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    steps = range(1, len(ours) + 1)
    axes.plot(steps, theirs, linewidth=5, color="#c9d6e8", label="TRL RewardTrainer, padded")
    axes.plot(steps, ours, linewidth=1.2, color="#1f4e8c", label="URMRewardTrainer, packed")
    axes.set(xlabel="step", ylabel="Bradley-Terry loss")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--pairs", required=True, help="a file or Hub dataset of pairs")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--batch", type=int, default=16, help="pairs in a step")
    parser.add_argument("--learning_rate", type=float, default=2e-5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--urm", action="store_true", help="train a URM in place of a scalar model")
    parser.add_argument("--compare", action="store_true", help="let TRL take the same steps")
    args = parser.parse_args()

    rows = load_rows(args.pairs, args.split)
    ours, seconds = train(URMRewardTrainer, URMRewardConfig, args, rows, truncation="drop")
    losses = read_losses(ours)
    print(f"{len(losses)} steps of {args.batch} pairs in {seconds:.0f} s; loss {losses[0]:.3f} to {losses[-1]:.3f}")
    ours.save_model(str(args.out))
    print(f"Saved to {args.out}")
    if not args.compare:
        return
    # the rows that are left, as token ids, so that both see the same
    theirs, padded = train(RewardTrainer, RewardConfig, args, ours.train_dataset)
    curve = read_losses(theirs)
    apart = max(abs(one - other) for one, other in zip(losses, curve, strict=True))
    print(f"TRL's RewardTrainer: {padded:.0f} s, {padded / seconds:.1f} times as long; largest difference {apart:.1e}")
    plot(losses, curve, args.out / "losses.png")
    print(f"Plot: {args.out / 'losses.png'}")


if __name__ == "__main__":
    main()
