"""
Training on packs against padded batches: ratios of processor time within one run, of the same rows.

    python benchmarks/packed_training.py FOLDER --base MODEL [--rows pairs_hh ...] [--n 160] [--peft]

FOLDER holds the data sets (pairs_hh.jsonl.gz, ...), MODEL is a causal LM with a chat template: four layers of
SmolLM2-135M were used for the numbers in docs/performance.md. Conversations of more than 512 tokens are left out. Each
line is two trainers that take their steps in turn. Only the ratios mean anything on another machine; where others work
on it too, set OMP_NUM_THREADS=1.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from in_turn import run_in_turn
from peft import LoraConfig
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

from urm_hf.data.encoder import Encoder
from urm_hf.data.ratings import read_ratings
from urm_hf.data.tables import load_rows
from urm_hf.modeling import URMForRewardModeling
from urm_hf.scoring.engine.running_pack import PACK
from urm_hf.trainers import URMAttributeConfig, URMAttributeTrainer, URMRewardConfig, URMRewardTrainer
from urm_hf.trainers.packed_models import find_backbone
from urm_hf.trainers.pairs import encode_pairs
from urm_hf.trainers.token_batches import TokenBatches

LONGEST, BATCH = 512, 16
QUIET = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1, "bf16": False}
COMMON = QUIET | {"gradient_checkpointing": False, "use_cpu": True, "learning_rate": 1e-5, "data_seed": 0}
RATINGS = {
    "ratings_webnlg2020": ["correctness", "datacoverage", "fluency", "relevance", "textstructure"],
    "ratings_dialsummeval": ["coherence", "consistency", "fluency", "relevance"],
}
LORA = {"r": 8, "target_modules": "all-linear", "task_type": "SEQ_CLS"}


def find(folder: Path, name: str) -> Path:
    """The file of that name, compressed or not."""
    return next(path for path in (folder / f"{name}.jsonl.gz", folder / f"{name}.jsonl") if path.is_file())


def encode(folder: Path, name: str, tokenizer: Any, n: int) -> Dataset:
    """`n` rows of a file, drawn with seed 0, as token ids."""
    rows = load_rows(str(find(folder, name)), None).shuffle(seed=0)
    if name.startswith("pairs"):
        args = RewardConfig(tempfile.mkdtemp(), bf16=False)
        args.on_error = "raise"
        encoder = Encoder(tokenizer, LONGEST, "drop")
        return (
            encode_pairs(rows.select(range(min(2 * n, len(rows)))), encoder, args, name)
            .select_columns(["chosen_ids", "rejected_ids"])
            .take(n)
        )
    encoder = Encoder(tokenizer, LONGEST, "left")
    # whole groups: an answer whose siblings are elsewhere shares with nobody
    rows = sorted(rows, key=lambda row: str(row["prompt"]))[:n]
    return Dataset.from_list(
        [
            {
                "input_ids": encoder.encode(row, None).ids,
                "ratings": read_ratings(row["ratings"], RATINGS[name]),
                "weight": 1.0,
            }
            for row in rows
        ]
    )


def equal_rows(tokenizer: Any, n: int, length: int = 256) -> Dataset:
    """Pairs that share nothing, all of one length."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(100, len(tokenizer) - 1, (2, n, length), generator=generator).tolist()
    return Dataset.from_dict({"chosen_ids": ids[0], "rejected_ids": ids[1]})


def reward_trainer(trainer: type, base: str, rows: Dataset, folder: str, lora: bool = False, **more: Any) -> Any:
    """A trainer of a scalar reward model on pairs."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, dtype=torch.float32)
    config = RewardConfig if trainer is RewardTrainer else URMRewardConfig
    args = config(folder, per_device_train_batch_size=BATCH, num_train_epochs=1, **(COMMON | more))
    peft = LoraConfig(**LORA) if lora else None
    tokenizer = AutoTokenizer.from_pretrained(base)
    return trainer(model, args, train_dataset=rows, processing_class=tokenizer, peft_config=peft)


def attribute_trainer(base: str, rows: Dataset, attributes: list[str], folder: str, **more: Any) -> Any:
    """A trainer of the attribute stage on rated conversations."""
    torch.manual_seed(0)
    model = URMForRewardModeling.from_backbone(base, attributes=attributes, dtype=torch.float32)
    args = URMAttributeConfig(folder, num_train_epochs=1, attributes=attributes, **(COMMON | more))
    return URMAttributeTrainer(model, args, train_dataset=rows, processing_class=AutoTokenizer.from_pretrained(base))


class CountTokens:
    """A trainer's collator that counts what its batches hold: computed, distinct and padded tokens."""

    def __init__(self, collator: Any):
        self.collator, self.counts = collator, np.zeros(3)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = self.collator(examples)
        columns = [name for name in ("input_ids", "chosen_ids", "rejected_ids") if name in examples[0]]
        sequences = [example[name] for name in columns for example in examples]
        distinct = len({tuple(ids[:end]) for ids in sequences for end in range(1, len(ids) + 1)})
        padded = len(sequences) * max(map(len, sequences))
        self.counts += [batch[PACK].pack_length if PACK in batch else padded, distinct, padded]
        return batch


def measure_products(hidden: int, seconds: float = 2.0) -> float:
    """Operations a second of float32 matrix products of a shape that occurs in the model."""
    left, right = torch.randn(2048, hidden), torch.randn(hidden, 3 * hidden)
    started, count = time.process_time(), 0
    while time.process_time() - started < seconds:
        left @ right
        count += 1
    return count * 2 * left.numel() * right.shape[1] / (time.process_time() - started)


def compare(label: str, ours: Any, theirs: Any, rows: int) -> None:
    """One line of the table."""
    rate = measure_products(ours.model.config.get_text_config().hidden_size)
    ours.data_collator = counting = CountTokens(ours.data_collator)
    mine, trl = run_in_turn(ours, theirs)
    wall, cpu = trl.sum(0) / mine.sum(0)
    computed, distinct, padded = counting.counts
    layers = find_backbone(ours.model).layers
    weights = sum(weight.numel() for weight in layers.parameters() if weight.ndim == 2)
    # forward once and backward twice, of which the steps that were measured had their share; attention not counted
    operations = 6 * weights * computed * len(mine) / (len(mine) + 1)
    interval = ""
    if len(mine) == len(trl):
        draws = np.random.default_rng(0).integers(0, len(mine), (2000, len(mine)))
        low, high = np.quantile(trl[draws, 1].sum(1) / mine[draws, 1].sum(1), [0.025, 0.975])
        interval = f" [{low:.2f}, {high:.2f}]"
    print(
        f"| {label} | {rows} | {len(mine)} | {cpu:.2f}x{interval} | {wall:.2f}x | {computed / padded:.2f} "
        f"| {computed / distinct:.3f} | {operations / mine[:, 1].sum() / rate:.0%} |",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", nargs="+", default=["pairs_hh", "pairs_oasst_rank", "pairs_hep", *RATINGS, "equal"])
    parser.add_argument("--n", type=int, default=160)
    parser.add_argument("--peft", action="store_true", help="an adapter in place of all weights")
    parser.add_argument("--grouped", action="store_true", help="TRL with batches of like length")
    parser.add_argument("--memory", choices=["packs", "padded", "both"], help="peak memory of a few steps")
    args = parser.parse_args()
    if args.memory:
        return print_memory(args)
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    print(f"threads: {torch.get_num_threads()}, batches of {BATCH} rows")
    print("| rows | n | steps | processor time, padded / packed | wall | computed / padded | / distinct | products |")
    print("|---|---|---|---|---|---|---|---|")
    for name in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            if name in RATINGS:
                rows = encode(args.folder, name, tokenizer, args.n)
                tokens = size_batches(rows)
                make = (args.base, rows, RATINGS[name], folder)
                ours = attribute_trainer(*make, max_tokens_per_step=tokens)
                theirs = attribute_trainer(*make, packing="none", per_device_train_batch_size=BATCH)
            else:
                rows = (
                    equal_rows(tokenizer, args.n) if name == "equal" else encode(args.folder, name, tokenizer, args.n)
                )
                make = (args.base, rows, folder, args.peft)
                by_length = {"train_sampling_strategy": "group_by_length", "remove_unused_columns": False}
                more = by_length if args.grouped else {}
                ours = reward_trainer(URMRewardTrainer, *make)
                lengths = [max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in rows]
                theirs = reward_trainer(
                    RewardTrainer, args.base, rows.add_column("length", lengths), *make[2:], **more
                )
            compare(name, ours, theirs, len(rows))


def size_batches(rows: Dataset) -> int:
    """Tokens of a batch by which there are as many batches as with `BATCH` rows each."""
    ids = [[row] for row in rows["input_ids"]]
    wanted = -(-len(rows) // BATCH)
    low, high = max(len(row[0]) for row in ids), sum(len(row[0]) for row in ids)
    while high - low > 16:
        middle = (low + high) // 2
        low, high = (middle, high) if len(TokenBatches(ids, middle, "tree", 0)) > wanted else (low, middle)
    return high


def print_memory(args: argparse.Namespace) -> None:
    """Peak resident memory of three steps on one data set; of both ways, each in a process of its own."""
    if args.memory == "both":
        for way in ("packs", "padded"):
            command = [sys.executable, __file__, str(args.folder), "--base", args.base, "--memory", way]
            subprocess.run([*command, "--rows", args.rows[0], "--n", str(args.n)], check=True)
        return
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    rows = encode(args.folder, args.rows[0], tokenizer, args.n)
    with tempfile.TemporaryDirectory() as folder:
        trainer = reward_trainer(
            URMRewardTrainer,
            args.base,
            rows,
            folder,
            max_steps=3,
            packing="tree" if args.memory == "packs" else "none",
        )
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{args.memory}: peak {peak / 2**20:.2f} GiB, {before / 2**20:.2f} GiB before the first step")


if __name__ == "__main__":
    main()
