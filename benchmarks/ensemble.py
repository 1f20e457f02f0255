"""
Three members held in different ways, against one model: time and memory of scoring the same conversations.

    python benchmarks/ensemble.py --base smollm2-135m --n 64

Members are heads on the frozen base, or LoRA adapters (r=16, all linear layers) of it, with random weights. Each way
runs in a process of its own, several times in turn; the medians are compared. Time is that of scoring alone, after a
warm-up, as processor time (which other programs on the machine disturb least). Memory is the process's largest
resident size while it scores, every weight having been read, less what it was before any model was loaded. Linux only.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from urm_hf import RewardScorer, URMEnsemble, URMForRewardModeling
from urm_hf.checkpoints.adapters import complete_adapter

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WAYS = {
    "one model": ("heads", "one"),
    "heads, resident": ("heads", "resident"),
    "heads, shared": ("heads", "shared"),
    "heads, sequential": ("heads", "sequential"),
    "one adapter": ("adapters", "one"),
    "adapters, resident": ("adapters", "resident"),
    "adapters, shared": ("adapters", "shared"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--n", type=int, default=64, help="conversations")
    parser.add_argument("--tokens", type=int, default=128, help="of each conversation")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--run", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        print(json.dumps(measure(args, *args.run)))
        return
    with tempfile.TemporaryDirectory() as folder:
        save_members(args, Path(folder))
        found = {way: [] for way in WAYS}
        for _ in range(args.repeats):
            for way, (kind, strategy) in WAYS.items():
                command = [sys.executable, __file__, *sys.argv[1:], "--run", f"{folder}/{kind}", strategy]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[way].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{args.n} conversations of {args.tokens} tokens, {args.base}, {args.dtype}, {args.repeats} runs each\n")
    print("| | time | against one | memory | against one |\n|---|---|---|---|---|")
    one = None
    for way, runs in found.items():
        seconds, megabytes = (statistics.median(run[key] for run in runs) for key in ("seconds", "megabytes"))
        one = (seconds, megabytes) if way.startswith("one") else one
        ratios = f"{seconds / one[0]:.2f}", f"{megabytes / one[1]:.2f}"
        print(f"| {way} | {seconds:.2f} s | {ratios[0]} | {megabytes:.0f} MB | {ratios[1]} |")


def save_members(args, folder: Path):
    """Three of each kind, with random heads and adapters."""
    tokenizer = AutoTokenizer.from_pretrained(args.base)
    for seed in range(3):
        torch.manual_seed(seed)
        model = URMForRewardModeling.from_backbone(args.base, dtype=args.dtype)
        model.save_pretrained(folder / "heads" / str(seed))
        tokenizer.save_pretrained(folder / "heads" / str(seed))
        adapter = folder / "adapters" / str(seed)
        lora = LoraConfig(r=16, target_modules=LAYERS, modules_to_save=["score"], init_lora_weights=False)
        get_peft_model(model, lora).save_pretrained(adapter)
        complete_adapter(adapter, model.config)
        tokenizer.save_pretrained(adapter)


def measure(args, folder: str, strategy: str) -> dict[str, float]:
    """Scores in this process."""
    names = [str(name) for name in sorted(Path(folder).iterdir())]
    before = resident_megabytes()
    if strategy != "one":
        model = URMEnsemble.from_pretrained(names, strategy=strategy, dtype=args.dtype)
    elif folder.endswith("adapters"):
        model = next(URMEnsemble.from_pretrained(names, strategy="sequential", dtype=args.dtype).iter_members())
    else:
        model = URMForRewardModeling.from_pretrained(names[0], dtype=args.dtype)
    scorer = RewardScorer(model, AutoTokenizer.from_pretrained(names[0]), max_tokens_per_batch=2048)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(10, 40000, (args.n, args.tokens), generator=generator).tolist()
    conversations = [{"input_ids": row} for row in ids]
    if strategy != "sequential":
        scorer.score(conversations[:4])
        for parameter in model.parameters():
            parameter.sum()  # files are mapped: a weight is in memory once it was read
    peak, done = [], threading.Event()

    def sample():
        while not done.wait(0.01):
            peak.append(resident_megabytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    start = time.process_time()
    scorer.score(conversations)
    seconds = time.process_time() - start
    done.set()
    sampler.join()
    return {"seconds": seconds, "megabytes": max(peak) - before}


def resident_megabytes() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
