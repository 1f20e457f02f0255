"""
Is uncertainty worth having in RLHF? GRPO against a proxy, measured by a gold reward that the policy never sees.

    python examples/paper/grpo.py --out paper/grpo

The task is that of `world.py`. For each seed three URMs are trained on simulated ratings; the policy is trained
against one of them, the ensemble, or the one with its posterior, by the mean reward or a careful one. Each run is
kept in OUT/runs and not repeated. Prints a table and writes OUT/results.json and OUT/grpo.png; intervals are 95 % of
Student's t over seeds, of differences between runs of the same seed.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from datasets import Dataset, disable_progress_bars
from scipy.stats import t as student
from transformers import PrinterCallback
from trl import GRPOConfig, GRPOTrainer
from world import ATTRIBUTES, Proxies, gold, make_policy, make_prompts, make_proxies

from urm_hf.data.outputs import write_whole
from urm_hf.rewards import LowerConfidenceBoundReward, UncertaintyFilteredReward, UncertaintyPenalizedReward
from urm_hf.uncertainty import compute_uncertainty

BASE = "URM, mean"
RULES = (
    *(BASE, "URM, filtered by sigma", "URM, lower bound by sigma"),
    *("URME, mean", "URME, less 1 gap", "URME, less 3 gaps", "URME, filtered by gap"),
    *("posterior, less 1 std", "posterior, less 3 std", "posterior, filtered"),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--answers", type=int, default=12, help="rated answers to each of the eight prompts")
    parser.add_argument("--noise", type=float, default=1.0, help="standard deviation of an annotator's rating")
    parser.add_argument(
        "--beta", type=float, default=0.0, help="of the KL term; at 0 the policy goes as far as it can"
    )
    parser.add_argument("--completions", type=int, default=32, help="in a step, 16 to a prompt")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--rules", nargs="+", help="only these; default: all")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    disable_progress_bars()
    for name in ("transformers", "trl", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
    histories: dict[str, list[dict]] = {}
    policy = make_policy(args.out / "policy")
    for seed in range(args.seeds):
        rules: dict[str, Callable] = {}
        for rule in args.rules or RULES:
            path = path_of(args, rule, seed)
            if not path.is_file():
                if not rules:
                    rules = rules_of(
                        make_proxies(policy, args.out / f"proxies-{seed}", seed, args.answers, args.noise)
                    )
                write_whole(path, json.dumps(run_once(args, policy, rules[rule], seed, path)).encode())
            histories.setdefault(rule, []).append(json.loads(path.read_text()))
    report(args, histories)


def rules_of(proxies: Proxies) -> dict[str, Callable]:
    """Rewards by name; thresholds are passed by nine tenths of answers like those that were rated."""
    scores = {"urm": proxies.urm.score(proxies.known), "urme": proxies.urme.score(proxies.known)}

    def passed(model: str, measure: str) -> float:
        return float(np.quantile(compute_uncertainty(scores[model], measure), 0.9))

    def filtered(model: str, measure: str) -> Callable:
        threshold = passed(model, measure)
        return lambda: UncertaintyFilteredReward(getattr(proxies, model), measure, threshold, name="proxy")

    def penalised(model: str, measure: str, k: float) -> Callable:
        return lambda: UncertaintyPenalizedReward(getattr(proxies, model), measure, k, name="proxy")

    def bound(model: str) -> Callable:
        return lambda: LowerConfidenceBoundReward(getattr(proxies, model), 0.9, name="proxy")

    made = [
        penalised("urm", "reward_std", 0),
        filtered("urm", "attribute_variance"),
        bound("urm"),
        penalised("urme", "reward_gap", 0),
        penalised("urme", "reward_gap", 1),
        penalised("urme", "reward_gap", 3),
        filtered("urme", "reward_gap"),
        penalised("urm", "reward_epistemic", 1),
        penalised("urm", "reward_epistemic", 3),
        filtered("urm", "reward_epistemic"),
    ]
    return dict(zip(RULES, made, strict=True))


def path_of(args, rule: str, seed: int) -> Path:
    name = "".join(character if character.isalnum() else "-" for character in rule)
    return args.out / "runs" / f"{name}-{seed}.json"


def run_once(args, policy: str, make: Callable, seed: int, path: Path) -> dict[str, list[float]]:
    """Gold and proxy of each step."""
    start = time.time()
    found: list[float] = []
    longest: list[float] = []

    def judge(prompts, completions, **_) -> list[float]:
        values = [gold(prompt, answer) for prompt, answer in zip(prompts, completions, strict=True)]
        found.append(float(np.mean(values)))
        longest.append(float(np.mean([len(answer.split()) - len(set(answer.split())) for answer in completions])))
        return values

    config = GRPOConfig(
        str(path.with_suffix("")),
        seed=seed,
        max_steps=args.steps,
        learning_rate=args.learning_rate,
        lr_scheduler_type="constant",
        beta=args.beta,
        per_device_train_batch_size=args.completions,
        num_generations=16,
        max_completion_length=12,
        reward_weights=[1.0, 0.0],  # gold is logged and teaches nothing
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    rows = Dataset.from_list([{"prompt": prompt} for prompt in make_prompts()] * 8)
    trainer = GRPOTrainer(policy, reward_funcs=[make(), judge], args=config, train_dataset=rows)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    logs = [entry for entry in trainer.state.log_history if "proxy/reward/mean" in entry]
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "gold": found,
        "repeats": longest,
        "proxy": [entry["proxy/reward/mean"] for entry in logs],
        "uncertainty": [read_uncertainty(entry) for entry in logs],
        "kept": [entry["proxy/kept_share"] for entry in logs],
        "seconds": round(time.time() - start),
    }


def read_uncertainty(entry: dict[str, float]) -> float:
    """The mean of whatever measure the reward logs beside itself."""
    names = [name for name in entry if name.startswith("proxy/") and name.endswith("/mean")]
    return next(entry[name] for name in names if name != "proxy/reward/mean")


def report(args, histories: dict[str, list[dict]]):
    """Table, results.json and plot."""
    last = max(1, args.steps // 10)  # the mean of the last tenth of the steps is what a run comes to
    ends = {rule: np.array([np.mean(run["gold"][-last:]) for run in runs]) for rule, runs in histories.items()}
    results: dict = {"seeds": args.seeds, "steps": args.steps, "attributes": ATTRIBUTES}
    results["seconds"] = sum(run["seconds"] for runs in histories.values() for run in runs)
    results["settings"] = {key: str(value) for key, value in vars(args).items()}
    results["start"] = float(np.mean([run["gold"][0] for runs in histories.values() for run in runs]))
    print(f"gold 0..4 at the start {results['start']:.2f}; {args.seeds} seeds, {args.steps} steps")
    print(
        "| reward | gold at its best | gold at the end | proxy at the end | against URM, mean |\n|---|---|---|---|---|"
    )
    results["rules"] = {}
    for rule, runs in histories.items():
        curve = np.mean([run["gold"] for run in runs], axis=0)
        gain = ends[rule] - ends[BASE] if BASE in ends else ends[rule] * np.nan
        low, high = interval(gain)
        proxy = float(np.mean([np.mean(run["proxy"][-last:]) for run in runs]))
        best = float(np.convolve(curve, np.ones(last) / last, "valid").max())
        found = {"best": best, "end": float(ends[rule].mean()), "ends": ends[rule].tolist(), "proxy": proxy}
        results["rules"][rule] = found | {"gain": float(gain.mean()), "interval": [low, high]}
        cells = f"{best:.2f} | {found['end']:.2f} | {proxy:.2f} | {gain.mean():+.2f} [{low:+.2f}, {high:+.2f}]"
        print(f"| {rule} | {cells} |")
    (args.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"Wrote {plot(histories, args.out / 'grpo.png')}")


def interval(values: np.ndarray) -> tuple[float, float]:
    """95 % of Student's t; of one value none."""
    if len(values) < 2:
        return float("nan"), float("nan")
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def plot(histories: dict[str, list[dict]], path: Path) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    models = ("URM", "URME", "posterior")
    figure, axes = plt.subplots(1, 3, figsize=(12.5, 4), sharey=True)
    for axis, model in zip(axes, models, strict=True):
        shown = [rule for rule in histories if rule.split(",")[0] == model or rule == BASE]
        for number, rule in enumerate(shown):
            for name, style in (("gold", "-"), ("proxy", ":")):
                values = np.array([smooth(run[name]) for run in histories[rule]])
                label = rule if name == "gold" else None
                axis.plot(values.mean(0), style, color=f"C{number}", label=label, lw=1.4)
                if name == "gold":
                    axis.fill_between(
                        range(values.shape[1]), values.min(0), values.max(0), color=f"C{number}", alpha=0.12, lw=0
                    )
        axis.set_title(model)
        axis.set_xlabel("GRPO step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, frameon=False)
    axes[0].set_ylabel("gold (solid, band: all seeds), proxy (dotted)")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def smooth(values: list[float], width: int = 5) -> np.ndarray:
    return np.convolve(values, np.ones(width) / width, "valid") if len(values) >= width else np.array(values)


if __name__ == "__main__":
    main()
