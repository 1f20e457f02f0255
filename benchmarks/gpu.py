"""
Packs against padded batches on a GPU: scoring and training, ratios of wall clock in one run, in under five minutes.

    python benchmarks/gpu.py [--hidden 1024 --layers 12] [--pairs pairs_hh.jsonl.gz --base MODEL]

Without --base a Llama with random weights and random conversations take the place of a model and of data, so that
nothing has to be downloaded: prompts of 200 to 400 tokens with two answers of 20 to 300. bfloat16 autocast for
training, bfloat16 weights for scoring. On a machine without a GPU it runs on the CPU with a small model, which tests
the script and measures nothing.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, LlamaConfig

from urm_hf.data import load_rows
from urm_hf.data.encoder import Encoder
from urm_hf.scoring.engine.padding import pad_batch
from urm_hf.trainers.packed_models import find_backbone, packed_batch, take_packs
from urm_hf.trainers.pairs import encode_pairs
from urm_hf.trainers.preferences import bradley_terry_losses

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")


def draw_pairs(count: int, vocabulary: int, seed: int = 0) -> list[list[list[int]]]:
    """Pairs of token ids that share their prompt, as hh dialogues do."""
    rng = random.Random(seed)

    def draw(least: int, most: int) -> list[int]:
        return [rng.randrange(10, vocabulary) for _ in range(rng.randint(least, most))]

    prompts = [draw(200, 400) if GPU else draw(20, 40) for _ in range(count)]
    return [[prompt + draw(20, 300 if GPU else 40) for _ in range(2)] for prompt in prompts]


def read_pairs(path: str, base: str, count: int) -> list[list[list[int]]]:
    """Pairs of a file, drawn with seed 0."""
    from trl import RewardConfig

    args = RewardConfig(tempfile.mkdtemp(), bf16=False, report_to="none")
    args.on_error = "raise"
    rows = load_rows(path, None).shuffle(seed=0).select(range(2 * count))
    encoded = encode_pairs(rows, Encoder(AutoTokenizer.from_pretrained(base), 1024, "drop"), args, "train")
    return [[row["chosen_ids"], row["rejected_ids"]] for row in encoded][:count]


def load_model(args: argparse.Namespace) -> Any:
    """A scalar reward model in float32."""
    torch.manual_seed(0)
    if args.base:
        model = AutoModelForSequenceClassification.from_pretrained(args.base, num_labels=1, dtype=torch.float32)
    else:
        heads = max(1, args.hidden // 64)
        shape = {"hidden_size": args.hidden, "intermediate_size": 3 * args.hidden, "num_hidden_layers": args.layers}
        config = LlamaConfig(
            **shape, num_attention_heads=heads, num_key_value_heads=max(1, heads // 4), vocab_size=args.vocabulary,
            num_labels=1, pad_token_id=0,
        )  # fmt: skip
        model = AutoModelForSequenceClassification.from_config(config)
    return model.to(DEVICE)


def to_device(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(DEVICE) if isinstance(value, torch.Tensor) else value for name, value in batch.items()}


def lay_out(sequences: list[list[int]], way: str) -> dict[str, Any]:
    """A model's inputs: "padded", "tree" or "flat", the last two with the device's back end."""
    return to_device(pad_batch(sequences, 0) if way == "padded" else packed_batch(sequences, share=way == "tree"))


def train_step(model: Any, pairs: list[list[list[int]]], way: str) -> torch.Tensor:
    """Forward and backward; the norm of each tensor's gradient."""
    model.zero_grad(set_to_none=True)
    sequences = [pair[side] for side in (0, 1) for pair in pairs]
    with torch.autocast(DEVICE.type, dtype=torch.bfloat16):
        rewards = model(**lay_out(sequences, way), use_cache=False).logits.squeeze(-1).float()
    loss = bradley_terry_losses(*rewards.chunk(2)).mean()
    loss.backward()
    return torch.stack([weight.grad.norm() for weight in model.parameters() if weight.grad is not None])


@torch.inference_mode()
def score(model: Any, pairs: list[list[list[int]]], way: str) -> torch.Tensor:
    """Rewards of all conversations of the pairs."""
    sequences = [conversation for pair in pairs for conversation in pair]
    return model(**lay_out(sequences, way), use_cache=False).logits.squeeze(-1).float()


def measure(run: Callable[[list[list[list[int]]]], Any], batches: list[Any], warm: int) -> tuple[float, float]:
    """Seconds a batch, and the peak of the GPU's memory in GiB; the first batches, in which kernels are made, not."""
    for batch in batches[:warm]:
        run(batch)
    if GPU:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    for batch in batches[warm:]:
        run(batch)
    if GPU:
        torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() / 2**30 if GPU else float("nan")
    return (time.perf_counter() - started) / len(batches[warm:]), peak


def compare(title: str, function: Callable[..., Any], model: Any, batches: list[Any], warm: int) -> None:
    """A table: both packed ways against the padded one, and whether they give the same numbers."""
    print(
        f"\n{title}\n| way | seconds a batch | padded / this | peak memory, GiB | differs by |\n|---|---|---|---|---|"
    )
    expected = function(model, batches[0], "padded")
    seconds, peak = measure(lambda batch: function(model, batch, "padded"), batches, warm)
    print(f"| padded | {seconds:.4f} | 1.00x | {peak:.2f} | |")
    for way in ("flat", "tree"):
        found = function(model, batches[0], way)
        apart = float((found - expected).norm() / expected.norm())
        mine, memory = measure(lambda batch, way=way: function(model, batch, way), batches, warm)
        print(f"| {way} | {mine:.4f} | {seconds / mine:.2f}x | {memory:.2f} | {apart:.1e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", help="a causal LM or reward model, by name")
    parser.add_argument("--pairs", help="a file of pairs, with --base")
    parser.add_argument("--hidden", type=int, default=1024 if GPU else 64)
    parser.add_argument("--layers", type=int, default=12 if GPU else 2)
    parser.add_argument("--vocabulary", type=int, default=32000 if GPU else 300)
    parser.add_argument("--batch", type=int, default=16 if GPU else 4, help="pairs in a batch")
    parser.add_argument("--batches", type=int, default=12 if GPU else 3)
    args = parser.parse_args()
    if bool(args.base) != bool(args.pairs):
        parser.error("--base and --pairs go together: token ids are those of the model's tokenizer")
    count = args.batch * args.batches
    rows = read_pairs(args.pairs, args.base, count) if args.pairs else draw_pairs(count, args.vocabulary)
    batches = [rows[start : start + args.batch] for start in range(0, count, args.batch)]
    model, warm = load_model(args), 2 if GPU else 1
    backbone = find_backbone(model)
    assert backbone is not None
    take_packs(backbone)
    name = torch.cuda.get_device_name() if GPU else "no GPU: this measures nothing"
    print(f"{name}; torch {torch.__version__}; {sum(weight.numel() for weight in model.parameters()):,} weights")
    compare(f"training, {args.batch} pairs, bfloat16 autocast", train_step, model.train(), batches, warm)
    model = model.to(torch.bfloat16).eval() if GPU else model.eval()
    compare(f"scoring, {2 * args.batch} conversations, {model.dtype}", score, model, batches, warm)


if __name__ == "__main__":
    main()
