"""
Iterative DPO as a loop of rounds: sample, score, filter, pair, train; gold against proxy over the rounds.

    python examples/paper/dpo.py --out paper/dpo

The task is that of `world.py`; the policy never sees gold. With `keep` half of all answers, those the reward model is
surest of, are paired, as in the later version of the paper. Each round is kept in OUT/runs and not repeated. Prints a
table, writes OUT/results.json and OUT/dpo.png; intervals are 95 % of Student's t over seeds, paired.
"""

import argparse
import json
import logging
import time
from pathlib import Path

import numpy as np
import torch
from datasets import disable_progress_bars
from grpo import interval
from transformers import AutoModelForCausalLM, PrinterCallback
from trl import DPOConfig, DPOTrainer
from world import Proxies, gold, make_policy, make_prompts, make_proxies, make_tokenizer

from urm_hf import build_preference_pairs
from urm_hf.bestofn.sampling import sample_answers

RULES = {  # which model pairs the answers, and what is kept of them
    "URM, all": ("urm", {}),
    "URM, half by sigma": ("urm", {"measure": "attribute_variance", "keep": 0.5}),
    "URME, all": ("urme", {}),
    "URME, half by gap": ("urme", {"measure": "reward_gap", "keep": 0.5}),
    "posterior, half": ("urm", {"measure": "reward_epistemic", "keep": 0.5}),
}
BASE = "URM, all"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--candidates", type=int, default=12, help="answers to a prompt")
    parser.add_argument(
        "--repeats", type=int, default=8, help="how often each of the eight prompts is asked in a round"
    )
    parser.add_argument("--answers", type=int, default=12, help="rated answers to each prompt")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of an annotator's rating")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    disable_progress_bars()
    for name in ("transformers", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    start, runs = time.time(), {}
    policy = make_policy(args.out / "policy")
    for seed in range(args.seeds):
        proxies = make_proxies(policy, args.out / f"proxies-{seed}", seed, args.answers, args.noise)
        for rule in RULES:
            runs.setdefault(rule, []).append(run_rounds(args, policy, proxies, rule, seed))
    report(args, runs, time.time() - start)


def run_rounds(args, policy: str, proxies: Proxies, rule: str, seed: int) -> list[dict]:
    """What each round found: gold and proxy of its answers, and what became of the pairs."""
    name = "".join(character if character.isalnum() else "-" for character in rule)
    rounds: list[dict] = []
    model, keeping = RULES[rule]
    scorer = getattr(proxies, model)
    for number in range(args.rounds + 1):
        path = args.out / "runs" / f"{name}-{seed}-{number}.json"
        folder = path.with_suffix("")
        known = json.loads(path.read_text()) if path.is_file() else {}
        # the last round of a shorter loop was only looked at: it goes on there
        if known and (number == args.rounds or (folder / "config.json").is_file()):
            rounds.append(known)
            policy = str(folder)
            continue
        prompts = make_prompts() * args.repeats
        settings = {"max_new_tokens": 12, "seed": 100 * seed + number, "batch_size": 64}
        written = sample_answers(policy, prompts, args.candidates, tokenizer=make_tokenizer(), **settings)
        answers = [[answer.text for answer in group] for group in written]
        found = judge(prompts, answers, scorer)
        path.parent.mkdir(parents=True, exist_ok=True)
        if number < args.rounds:  # the last one is only looked at
            pairs, told = build_preference_pairs(prompts, answers, scorer, **keeping)
            found |= {"pairs": told.pairs, "unknown": told.unknown, "threshold": told.threshold}
            train(policy, pairs, folder, seed)
            policy = str(folder)
        path.write_text(json.dumps(found))
        rounds.append(found)
    return rounds


def judge(prompts: list[str], answers: list[list[str]], scorer) -> dict:
    """Means over all answers that say something."""
    said = [(prompt, text) for prompt, group in zip(prompts, answers, strict=True) for text in group if text.strip()]
    scores = scorer.score([{"prompt": prompt, "completion": text} for prompt, text in said])
    return {
        "gold": float(np.mean([gold(prompt, text) for prompt, text in said])),
        "proxy": float(np.mean([score.reward for score in scores])),
        "repeats": float(np.mean([len(text.split()) - len(set(text.split())) for _, text in said])),
    }


def train(policy: str, pairs, folder: Path, seed: int):
    """One round of DPO from the policy of the last, which is its reference too."""
    torch.manual_seed(seed)
    columns = [name for name in pairs.column_names if name not in ("prompt", "chosen", "rejected")]
    config = DPOConfig(
        str(folder),
        seed=seed,
        learning_rate=3e-4,
        num_train_epochs=3,
        per_device_train_batch_size=16,
        beta=0.1,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = DPOTrainer(
        AutoModelForCausalLM.from_pretrained(policy),
        args=config,
        train_dataset=pairs.remove_columns(columns),
        processing_class=make_tokenizer(),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    trainer.save_model(str(folder))


def report(args, runs: dict[str, list[list[dict]]], seconds: float):
    """Table, results.json and plot."""
    gold_of = {rule: np.array([[r["gold"] for r in rounds] for rounds in seeds]) for rule, seeds in runs.items()}
    proxy_of = {rule: np.array([[r["proxy"] for r in rounds] for rounds in seeds]) for rule, seeds in runs.items()}
    results: dict = {"seeds": args.seeds, "rounds": args.rounds, "seconds": round(seconds), "rules": {}}
    results["start"] = float(np.mean([values[:, 0].mean() for values in gold_of.values()]))
    print(f"gold 0..4 at the start {results['start']:.2f}; {args.seeds} seeds, {args.rounds} rounds")
    print("| pairs by | gold at its best | gold at the end | proxy at the end | against URM, all |")
    print("|---" * 5 + "|")
    for rule, values in gold_of.items():
        gain = values[:, -1] - gold_of[BASE][:, -1]
        low, high = interval(gain)
        best, end, proxy = values.mean(0).max(), values[:, -1].mean(), proxy_of[rule][:, -1].mean()
        results["rules"][rule] = {"best": float(best), "end": float(end), "proxy": float(proxy)}
        results["rules"][rule] |= {"gain": float(gain.mean()), "interval": [low, high]}
        print(f"| {rule} | {best:.2f} | {end:.2f} | {proxy:.2f} | {gain.mean():+.2f} [{low:+.2f}, {high:+.2f}] |")
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"Wrote {plot(gold_of, proxy_of, args.out / 'dpo.png')}")


def plot(gold_of: dict, proxy_of: dict, path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(6.5, 4))
    for number, (rule, values) in enumerate(gold_of.items()):
        axis.plot(values.mean(0), color=f"C{number}", label=rule)
        axis.fill_between(range(values.shape[1]), values.min(0), values.max(0), color=f"C{number}", alpha=0.1, lw=0)
        axis.plot(proxy_of[rule].mean(0), ":", color=f"C{number}")
    axis.set_xlabel("round of DPO")
    axis.set_ylabel("gold (solid, band: all seeds), proxy (dotted)")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


if __name__ == "__main__":
    main()
