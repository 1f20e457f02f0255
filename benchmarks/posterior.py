"""
What a posterior costs: in a forward pass, in memory, and to fit.

    python benchmarks/posterior.py forward --base MODEL [--rounds 9] [--clock cpu]
    python benchmarks/posterior.py fit [--hidden 4096] [--rows 100000] [--attributes 5] [--missing 0.3]

`forward` prints the time of one batch with a posterior over that without, medians of alternating rounds, of MODEL and
of one layer of Llama-3-8B's width with random weights. `fit` sums up random hidden states, which take no part in the
time, and fits; memory is the most that the process held, less what it held before. Threads: set OMP_NUM_THREADS.
"""

import argparse
import copy
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from transformers import LlamaConfig, LlamaModel

from urm_hf import URMForRewardModeling
from urm_hf.modeling import URMConfig
from urm_hf.trainers.posteriors import fit_head_posterior
from urm_hf.trainers.rated_states import RatedStates
from urm_hf.uncertainty.moments import Moments
from urm_hf.uncertainty.posterior import fit_posterior

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
LLAMA_8B = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
LAYERS = 32
ATTRIBUTES = ["helpfulness", "correctness", "coherence", "complexity", "verbosity"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    forward = kinds.add_parser("forward")
    forward.add_argument("--base", required=True)
    forward.add_argument("--rows", type=int, default=4)
    forward.add_argument("--tokens", type=int, default=128)
    forward.add_argument("--rounds", type=int, default=9)
    forward.add_argument("--clock", choices=list(CLOCKS), default="wall")
    fit = kinds.add_parser("fit")
    fit.add_argument("--hidden", type=int, default=4096)
    fit.add_argument("--rows", type=int, default=100_000)
    fit.add_argument("--attributes", type=int, default=5)
    fit.add_argument("--missing", type=float, default=0.0, help="share of the ratings that are missing, at random")
    args = parser.parse_args()
    if args.kind == "fit":
        time_fit(args)
        return
    torch.manual_seed(0)
    small = URMForRewardModeling.from_backbone(args.base, attributes=ATTRIBUTES, dtype=torch.float32)
    compare_forward("MODEL", small, 1, args)
    wide = URMConfig(backbone_config=LlamaConfig(**LLAMA_8B, num_hidden_layers=1, vocab_size=1000))
    layer = URMForRewardModeling(wide, LlamaModel(wide.backbone_config))
    compare_forward(f"a layer of 8B's width, times {LAYERS}", layer, LAYERS, args)


@torch.no_grad()
def compare_forward(name: str, plain: URMForRewardModeling, layers: int, args):
    plain.eval()
    knowing, hidden_size = copy.deepcopy(plain), plain.config.hidden_size
    knowing.model = plain.model
    hidden = torch.randn(200, hidden_size).numpy()
    fit_head_posterior(RatedStates(knowing, hidden, hidden[:, :5, None]))
    ids = torch.randint(100, 900, (args.rows, args.tokens))
    pooled = torch.randn(args.rows, hidden_size)
    works: list[Callable[[], object]] = [
        lambda: plain.pool(input_ids=ids, attention_mask=torch.ones_like(ids)),
        lambda: plain(pooled_hidden=pooled),
        lambda: knowing(pooled_hidden=pooled),
    ]
    body, without, with_posterior = (1e3 * seconds for seconds in time_in_turn(works, args))
    body *= layers
    size = sum(buffer.nbytes for key, buffer in knowing.score.named_buffers() if key.startswith("posterior_"))
    print(
        f"{name}, hidden size {hidden_size}, rank {knowing.config.posterior_rank}, {args.rows} x {args.tokens} tokens "
        f": {(body + with_posterior) / (body + without):.4f}x the time (body {body:.0f} ms, head {without:.2f} ms, "
        f"with a posterior {with_posterior:.2f} ms), {size / 1e6:.1f} MB more"
    )


def time_in_turn(works: list[Callable[[], object]], args) -> list[float]:
    """Median seconds of each work."""
    clock = CLOCKS[args.clock]
    taken: list[list[float]] = [[] for _ in works]
    for number in range(args.rounds + 1):
        for work, times in zip(works, taken, strict=True):
            start = clock()
            work()
            if number:  # the first is to warm up
                times.append(clock() - start)
    return [statistics.median(times) for times in taken]


def time_fit(args):
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    moments, seconds = Moments(args.hidden, args.attributes), 0.0
    for start in range(0, args.rows, 1024):
        hidden = rng.standard_normal((min(1024, args.rows - start), args.hidden), dtype=np.float32)
        ratings = hidden[:, : args.attributes, None] + rng.standard_normal((len(hidden), args.attributes, 1))
        ratings[rng.random(ratings.shape) < args.missing] = np.nan
        begun = time.perf_counter()
        moments.add(hidden, ratings)
        seconds += time.perf_counter() - begun
    begun = time.perf_counter()
    posterior = fit_posterior(moments)
    fitted = time.perf_counter() - begun
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20
    print(
        f"{args.rows:,} rows, hidden size {args.hidden}, {args.attributes} attributes, {args.missing:.0%} missing, "
        f"rank {posterior.rank}: summed up in {seconds:.0f} s, fitted in {fitted:.0f} s, {memory:.2f} GiB more memory"
    )


if __name__ == "__main__":
    main()
