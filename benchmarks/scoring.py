"""
The scorer against loops over padded batches, and against what the machine can do: ratios of one run, medians.

    python benchmarks/scoring.py shared --base MODEL --data-dir DATA [--n 300] [--rounds 3] [--works pairs_hep ...]
    python benchmarks/scoring.py unshared --base MODEL --data-dir DATA     rows that share nothing, length-sorted loop
    python benchmarks/scoring.py model --base MODEL       one URM against AutoModelForSequenceClassification
    python benchmarks/scoring.py peak --base MODEL [--compile]             share of the machine's matrix product rate
    python benchmarks/scoring.py start                                     seconds until `urm --help` and imports

MODEL is a causal LM with a chat template. Threads: set OMP_NUM_THREADS. Conversations are token ids already, for both
sides; planning and sorting are timed. Under load, `--clock cpu` counts processor time instead of seconds.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from urm_hf import RewardScorer, URMForRewardModeling
from urm_hf.data.answers import Columns, conversations_of
from urm_hf.data.tables import read_jsonl
from urm_hf.scoring.engine.padding import pad_batch

TARGETS = {
    "pairs_rmbench": 3.9,
    "bestofn_alpacaeval": 1.7,
    "long_prompt": 7.0,
    "pairs_hep": 2.0,
    "pairs_hh": 2.4,
    "pairs_llmbar": 2.4,
    "pairs_judgebench_gpt4o": 1.3,
}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Ids = list[list[int]]


def sample(path: Path, scorer: RewardScorer, n: int) -> Ids:
    """About n conversations, of whole prompts spread evenly over the file, in the file's order."""
    prompts: dict[str, list[dict]] = {}
    for row in read_jsonl(path):
        prompts.setdefault(str(row["prompt"]), []).append(row)
    groups = list(prompts.values())
    mean = sum(len(conversations_of(row, Columns())) for rows in groups for row in rows) / len(groups)
    chosen = groups[:: max(1, round(len(groups) * mean / n))]
    rows = [row for group in chosen for row in group]
    return scorer.encode(conversation for row in rows for _, conversation in conversations_of(row, Columns()))[0]


def long_prompt(vocabulary: int) -> Ids:
    """16 answers of 60 tokens to one prompt of 1000."""
    generator = torch.Generator().manual_seed(0)
    prompt, answers = (torch.randint(100, vocabulary, shape, generator=generator) for shape in ((1000,), (16, 60)))
    return [prompt.tolist() + answer.tolist() for answer in answers]


@torch.inference_mode()
def padded_loop(model, sequences: Ids, batches: list[list[int]]) -> torch.Tensor:
    rewards = torch.empty(len(sequences))
    for batch in batches:
        rewards[batch] = model(**pad_batch([sequences[row] for row in batch], 0)).logits[:, 0]
    return rewards


def batches_by_length(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Rows in batches, longest first, each of at most `max_tokens` with its padding."""
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // lengths[order[start]])
        batches.append(order[start : start + size])
        start += size
    return batches


def timed(clock: Callable[[], float], sides: dict[str, Callable], rounds: int) -> tuple[dict[str, float], dict]:
    """Median seconds of each side, which take turns, and what each returned."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    results = {}
    for turn in range(rounds):
        for name, side in list(sides.items())[:: 1 if turn % 2 else -1]:
            started = clock()
            results[name] = side()
            seconds[name].append(clock() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}, results


def compare(name: str, scorer: RewardScorer, sequences: Ids, batches: list[list[int]], args):
    """One line: the scorer against the batches."""
    sides = {
        "loop": lambda: padded_loop(scorer.model, sequences, batches),
        "scorer": lambda: torch.tensor([score.reward for score in scorer.score_ids(sequences)]),
    }
    seconds, rewards = timed(CLOCKS[args.clock], sides, args.rounds)
    difference = float((rewards["loop"] - rewards["scorer"]).abs().max())
    padded = sum(len(batch) * max(len(sequences[row]) for row in batch) for batch in batches)
    distinct, computed = scorer.stats["distinct_tokens"], scorer.stats["computed_tokens"]
    ratio, target = seconds["loop"] / seconds["scorer"], TARGETS.get(name, 0.97)
    print(
        f"| {name} | {len(sequences)} | {seconds['loop']:.2f} s | {seconds['scorer']:.2f} s | {ratio:.2f} | "
        f"{padded / distinct:.2f} | {target} | {computed / distinct:.3f} | {difference:.0e} |",
        flush=True,
    )


def head_of_table():
    print("| work | conversations | loop | scorer | ratio | limit | target | computed / distinct | differ |")
    print("|---|---|---|---|---|---|---|---|---|")


def shared(args):
    """Against padded batches of 8 in the file's order, as benchmark runners make them."""
    scorer = RewardScorer(fresh_urm(args.base), AutoTokenizer.from_pretrained(args.base), compile=args.compile)
    head_of_table()
    for name in args.works or TARGETS:
        path = args.data_dir / f"{name}.jsonl.gz"
        vocabulary = scorer.model.config.vocab_size
        sequences = long_prompt(vocabulary) if name == "long_prompt" else sample(path, scorer, args.n)
        rows = list(range(len(sequences)))
        compare(name, scorer, sequences, [rows[start : start + 8] for start in range(0, len(rows), 8)], args)


def unshared(args):
    """Random tokens, against batches sorted by length that hold as many tokens as the scorer's."""
    scorer = RewardScorer(fresh_urm(args.base), AutoTokenizer.from_pretrained(args.base), compile=args.compile)
    lengths = [len(ids) for ids in sample(args.data_dir / "pairs_hh.jsonl.gz", scorer, args.n)]
    head_of_table()
    for name, sizes in (("lengths of pairs_hh", lengths), ("all of 200 tokens", [200] * (args.n // 2))):
        sequences = [torch.randint(100, scorer.model.config.vocab_size, (size,)).tolist() for size in sizes]
        compare(name, scorer, sequences, batches_by_length(sizes, 4096), args)


@torch.inference_mode()
def one_model(args):
    """The same batch through a URM and a scalar reward model of transformers."""
    urm = fresh_urm(args.base)
    scalar = AutoModelForSequenceClassification.from_pretrained(args.base, num_labels=1, dtype=torch.float32).eval()
    scalar.config.pad_token_id = 0
    print("| batch | scalar model | URM | ratio |\n|---|---|---|---|")
    for rows, length in ((8, 128), (8, 512)):
        batch = pad_batch(torch.randint(100, urm.config.vocab_size, (rows, length)).tolist(), 0)
        sides = {"scalar": lambda b=batch: scalar(**b), "urm": lambda b=batch: urm(**b)}
        seconds, _ = timed(CLOCKS[args.clock], sides, 5 * args.rounds)
        ratio = seconds["urm"] / seconds["scalar"]
        print(f"| {rows} x {length} | {seconds['scalar']:.3f} s | {seconds['urm']:.3f} s | {ratio:.3f} |")


def peak(args):
    """Operations of the tokens that are there (attention: of the causal half), against a plain matrix product."""
    clock = CLOCKS[args.clock]
    scorer = RewardScorer(fresh_urm(args.base), AutoTokenizer.from_pretrained(args.base), compile=args.compile)
    config = scorer.model.config.backbone_config
    width, layers = config.hidden_size, config.num_hidden_layers
    best = 0.0
    for k, n in ((width, config.intermediate_size), (config.intermediate_size, width), (width, width)):
        a, b = torch.randn(4096, k), torch.randn(n, k)
        seconds, _ = timed(clock, {"product": lambda a=a, b=b: torch.nn.functional.linear(a, b)}, 15)
        best = max(best, 2 * 4096 * k * n / seconds["product"])
    print(
        f"matrix product of the model's shapes: {best / 1e9:.0f} GFLOP/s\n\n| batch | GFLOP/s | share |\n|---|---|---|"
    )
    weights = sum(p.numel() for name, p in scorer.model.model.named_parameters() if "embed" not in name)
    for length in (100, 500, 1000, 2000):
        count = 4000 // length
        sequences = torch.randint(100, config.vocab_size, (count, length)).tolist()
        scorer.score_ids(sequences)
        seconds, _ = timed(clock, {"scorer": lambda s=sequences: scorer.score_ids(s)}, 2 * args.rounds)
        attention = 4 * layers * config.num_attention_heads * config.head_dim * length * (length + 1) / 2
        rate = count * (2 * weights * length + attention) / seconds["scorer"]
        print(f"| {count} x {length} | {rate / 1e9:.0f} | {rate / best:.0%} |", flush=True)


def start(args):
    imports = "import torch, transformers; from transformers import AutoModel, PreTrainedModel"
    programs = {
        "python": "pass",
        "urm --help": "import sys; sys.argv = ['urm', '--help']; from urm_hf.cli import main; main()",
        "import torch, transformers": imports,
        "import torch, transformers, urm_hf": f"{imports}; import urm_hf",
    }

    def run(program: str):
        subprocess.run([sys.executable, "-c", program], stdout=subprocess.DEVNULL, check=True)

    sides = {name: lambda p=program: run(p) for name, program in programs.items()}
    seconds, _ = timed(time.perf_counter, sides, max(5, args.rounds))
    print("| command | seconds |\n|---|---|")
    for name, value in seconds.items():
        print(f"| {name} | {value:.2f} |")


def fresh_urm(base: str) -> URMForRewardModeling:
    torch.manual_seed(0)
    return URMForRewardModeling.from_backbone(base, dtype=torch.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    whats = {"shared": shared, "unshared": unshared, "model": one_model, "peak": peak, "start": start}
    parser.add_argument("what", choices=whats)
    parser.add_argument("--base")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--n", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--works", nargs="+", choices=TARGETS)
    parser.add_argument("--compile", action="store_true", help="compile the layers of the model")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    if args.what != "start" and args.base is None:
        parser.error("--base is needed")
    if args.what in ("shared", "unshared") and args.data_dir is None:
        parser.error("--data-dir is needed")
    if args.base:
        config = AutoConfig.from_pretrained(args.base)
        print(f"{args.base}: {config.num_hidden_layers} layers, {torch.get_num_threads()} threads, ", end="")
        print(f"{args.rounds} rounds, {args.clock} clock\n")
    whats[args.what](args)


if __name__ == "__main__":
    main()
