"""
Two ratios, each measured within one run of this script.

    python benchmarks/training.py step --base MODEL        an attribute step against TRL's RewardTrainer, same tokens
    python benchmarks/training.py gating --base MODEL --pairs pairs.jsonl.gz [--n 128]
                                                           the gating stage without and with cached hidden states

MODEL is any causal LM; a folder with four layers of SmolLM2-135M was used for the numbers in docs/performance.md.
Only the ratios mean anything on another machine. Where others work on it too, set OMP_NUM_THREADS=1 and
read the processor times.
"""

import argparse
import tempfile
import time

import numpy as np
import torch
from datasets import Dataset
from in_turn import run_in_turn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from urm_hf.data.tables import load_rows
from urm_hf.modeling import URMForRewardModeling
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMGatingConfig, URMGatingTrainer

PAPER_EPOCHS = 4000 * 256 / 76_000  # of the gating stage: Skywork-80K less 4000 held-out pairs
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no", "bf16": False}


def step(base: str, steps: int = 41, sequences: int = 16, length: int = 128):
    """Both trainers see the same `sequences` x `length` tokens: data loading, forward, backward, AdamW with decay."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(100, len(tokenizer) - 1, (sequences, length), generator=generator).tolist()
    half = sequences // 2
    ratings = [[[float(i % 5)]] * 5 for i in range(sequences)]
    pairs = Dataset.from_dict({"chosen_ids": rows[:half], "rejected_ids": rows[half:]})
    rated = Dataset.from_dict({"input_ids": rows, "ratings": ratings, "weight": [1.0] * sequences})
    common = {**QUIET, "max_steps": steps, "gradient_checkpointing": False, "max_length": None, "use_cpu": True}
    common |= {"weight_decay": 1e-3, "learning_rate": 2e-6}
    with tempfile.TemporaryDirectory() as folder:
        ours = URMAttributeTrainer(
            URMForRewardModeling.from_backbone(base, dtype=torch.float32),
            URMAttributeConfig(folder, per_device_train_batch_size=sequences, **common),
            train_dataset=rated,
            processing_class=tokenizer,
        )
        theirs = RewardTrainer(
            AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32),
            RewardConfig(folder, per_device_train_batch_size=half, **common),
            train_dataset=pairs,
            processing_class=tokenizer,
        )
        a, b = run_in_turn(ours, theirs)  # (steps, 2)
    print(f"step of {sequences} x {length} tokens, {len(a)} steps of each trainer in turn:")
    for kind, mine, trl in zip(("wall", "processor"), a.T, b.T, strict=True):
        low, middle, high = np.quantile(mine / trl, [0.25, 0.5, 0.75])
        print(f"  {kind} time: median of URMAttributeTrainer {np.median(mine):.3f} s,", end=" ")
        print(f"of TRL RewardTrainer {np.median(trl):.3f} s, ratio {np.median(mine) / np.median(trl):.3f};")
        print(f"    of successive steps, ratio {middle:.3f} (middle half {low:.3f} to {high:.3f});", end=" ")
        print(f"of the fastest steps {mine.min() / trl.min():.3f}")


def gating(base: str, pairs: str, n: int, batch: int = 32):
    """The whole stage, hidden states included, at the paper's number of epochs."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    rows = load_rows(pairs, "train").select(range(n))
    steps = round(PAPER_EPOCHS * n / batch)
    seconds, gates = {}, {}
    for cached in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(0)
            model = URMForRewardModeling.from_backbone(base, dtype=torch.float32)
            started = time.perf_counter()
            trainer = URMGatingTrainer(
                model,
                URMGatingConfig(
                    folder,
                    max_steps=steps,
                    per_device_train_batch_size=batch,
                    cache_features=cached,
                    cache_dir=folder,
                    use_cpu=True,
                    **QUIET,
                ),
                train_dataset=rows,
                processing_class=tokenizer,
            )
            trainer.train()
            seconds[cached] = time.perf_counter() - started
            gates[cached] = torch.cat([p.detach().flatten() for p in model.score.gate.parameters()])
    print(f"gating stage, {n} pairs, {steps} steps of {batch} pairs ({PAPER_EPOCHS:.1f} epochs, the paper's number):")
    print(
        f"  without cache {seconds[False]:.1f} s, with cache {seconds[True]:.1f} s (hidden states included), ", end=""
    )
    print(f"ratio {seconds[False] / seconds[True]:.1f}; largest difference of a weight of the gate ", end="")
    print(f"{(gates[False] - gates[True]).abs().max():.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["step", "gating"])
    parser.add_argument("--base", required=True)
    parser.add_argument("--pairs")
    parser.add_argument("--n", type=int, default=128)
    args = parser.parse_args()
    if args.what == "step":
        step(args.base)
    elif args.pairs is None:
        parser.error("`gating` needs --pairs")
    else:
        gating(args.base, args.pairs, args.n)


if __name__ == "__main__":
    main()
