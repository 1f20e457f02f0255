"""
Does an ensemble know what it does not know? Its uncertainty on test conversations against unfamiliar ones of the same
length, and its accuracy on pairs that it is sure of: the questions of the paper's Fig. 5, 6 and 8.

    python examples/unfamiliar.py --ensemble urme/ensemble --ratings ratings.jsonl.gz --pairs pairs.jsonl.gz \
        --prompts prompts_ood.jsonl.gz --policy HuggingFaceTB/SmolLM2-135M-Instruct --out results

`examples/ensemble_members.py` trains such an ensemble. Writes OUT/results.json and plots, prints tables.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from unfamiliar_plots import plot_densities, plot_kept, plot_measures
from unfamiliar_texts import arithmetic, garbled, hard_prompts, long_arithmetic

from urm_hf.data import load_rows
from urm_hf.filtering import combine_pair_uncertainty, filter_values, fit_threshold
from urm_hf.modeling import URMEnsemble
from urm_hf.ood import ood_report
from urm_hf.scoring import RewardScore, RewardScorer, output_rows
from urm_hf.scoring.features import output_of_cached
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.uncertainty import MEASURES, compute_preference_probability, compute_uncertainty, margin_gap

SHARES = np.arange(1, 0.15, -0.05)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ensemble", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--ratings", required=True)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--prompts", required=True)
    parser.add_argument("--policy", required=True, help="chat model that answers the prompts")
    parser.add_argument("--max_pairs", type=int, help="drawn with the seed")
    parser.add_argument("--target_error", type=float, default=0.45)
    parser.add_argument("--bootstrap_samples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    scorer = RewardScorer(URMEnsemble.from_pretrained(args.ensemble, dtype=args.dtype))
    results = {"unfamiliar": unfamiliar(args, scorer), "pairs": pairs(args, scorer)}
    (args.out / "results.json").write_text(json.dumps(results, indent=1))


def score_all(scorer: RewardScorer, conversations) -> list[RewardScore]:
    """Scores; hidden states of a backbone that all members share are kept on disk, as training does."""
    ensemble = scorer.model
    if not ensemble.shares_backbone:
        return scorer.score(conversations, progress=True)
    ids = scorer.encode(conversations)[0]
    rows = output_rows(output_of_cached(ensemble, ids, scorer.tokenizer.pad_token_id), ensemble.config.attributes)
    return [RewardScore(**row, n_tokens=len(i)) for row, i in zip(rows, ids, strict=True)]


def unfamiliar(args, scorer: RewardScorer) -> dict:
    """AUROC of every measure on every kind of unfamiliar text; raw and standardised rewards."""
    rows = load_rows(args.ratings, "test")
    known = [[*row["prompt"], {"role": "assistant", "content": row["response"]}] for row in rows]
    rng = np.random.default_rng(args.seed)
    cache = args.out / "hard_prompts.json"
    texts = {
        "arithmetic (short)": arithmetic(rng, len(known)),
        "arithmetic": long_arithmetic(rng, known, scorer.tokenizer),
        "hard prompts": hard_prompts(args.prompts, args.policy, known, cache, args.seed),
        "garbled answers": garbled(rng, known, scorer.tokenizer),
    }
    found = {}
    config = scorer.model.config
    for standardised in (False, True):
        if standardised:
            reference = score_all(scorer, list(load_rows(args.ratings, "validation")))
            scorer.model.standardize(torch.tensor([score.member_rewards for score in reference]).T)
        ours = score_all(scorer, known)
        prompts = [json.dumps(row["prompt"]) for row in rows]
        scored = {"test": ours}
        for name, conversations in texts.items():
            scores = scored[name] = score_all(scorer, conversations)
            measures = ["reward_gap", "reward_std", "reward_epistemic"] if standardised else None
            report = ood_report(
                ours,
                scores,
                measures=measures,
                texts=[[c[-1]["content"] for c in side] for side in (known, conversations)],
                groups=(prompts, list(range(len(scores)))),
                n_resamples=args.bootstrap_samples,
            )
            kind = f"{name}, standardised" if standardised else name
            print(f"\n## {kind}\n{report}")
            report.plot(args.out / f"{kind.replace(' ', '_')}.png")
            found[kind] = {
                row.name: [row.auroc, *row.auroc_interval, row.fpr95, row.trivial, *row.gain_interval]
                for row in report.rows
            }
            means = {}
            for name in measures or MEASURES:
                means[name] = [float(compute_uncertainty(side, name).mean()) for side in (ours, scores)]
            found[kind] |= {"means": means, "n": [len(ours), len(scores)]}
        if not standardised:
            plot_measures(scored, args.out / "measures.png")
    if scorer.model.shares_backbone:
        shown = {"test": known[0], "hard prompts": texts["hard prompts"][0]}
        ids = {kind: scorer.encode([conversation])[0] for kind, conversation in shown.items()}
        outputs = {k: output_of_cached(scorer.model, one, scorer.tokenizer.pad_token_id) for k, one in ids.items()}
        plot_densities(outputs, scorer.model.config.attributes, args.out / "densities.png")
    config.reward_means = config.reward_stds = None
    return found


def pairs(args, scorer: RewardScorer) -> dict:
    """Accuracy against the share kept (Fig. 6c), and how often a promised error is broken over 200 splits."""
    rows = [row for part in ("validation", "test") for row in load_rows(args.pairs, part)]
    if args.max_pairs:
        rows = [rows[i] for i in np.random.default_rng(args.seed).permutation(len(rows))[: args.max_pairs]]
    sides = [
        score_all(scorer, [{"prompt": row["prompt"], "completion": row[side]} for row in rows])
        for side in ("chosen", "rejected")
    ]
    rewards = [np.array([score.reward for score in side]) for side in sides]
    correct = rewards[0] > rewards[1]
    curves = {}
    for name in MEASURES:
        curves[name] = combine_pair_uncertainty(*(compute_uncertainty(side, name) for side in sides))
    curves["margin gap"] = margin_gap(*sides)
    curves["P(chosen > rejected) near 1/2"] = -np.abs(compute_preference_probability(*sides) - 0.5)
    curves["margin near 0"] = -np.abs(rewards[0] - rewards[1])
    curves["random"] = np.random.default_rng(args.seed).random(len(rows))
    found = {"n": len(rows), "accuracy": float(correct.mean()), "shares": SHARES.tolist(), "curves": {}}
    print(f"\n## {len(rows)} pairs, accuracy {correct.mean():.3f}\n")
    print("| filtered by | AUROC for errors | accuracy at 80 % | at 50 % | at 20 % | broken: halves | population |")
    print("|---|---|---|---|---|---|---|")
    for name, values in curves.items():
        accuracy = [float(correct[filter_values(values, keep=share).kept].mean()) for share in SHARES]
        auroc = float(compute_auroc(values[correct], values[~correct]))
        broken = broken_promises(values, correct, args.target_error, args.seed)
        at = [float(correct[filter_values(values, keep=share).kept].mean()) for share in (0.8, 0.5, 0.2)]
        found["curves"][name] = {"accuracy": accuracy, "auroc": auroc, "broken": broken, "at": at}
        promise = " | ".join(f"{broken[way]} of {broken[f'{way} fitted']}" for way in ("halves", "population"))
        print(f"| {name} | {auroc:.3f} | " + " | ".join(f"{value:.3f}" for value in at) + f" | {promise} |")
    plot_kept(found, args.out / "accuracy_kept.png")
    return found


def broken_promises(values, correct, target_error: float, seed: int) -> dict[str, int]:
    """
    How often of 200 times a fitted threshold's error exceeds the target, for both kinds of promise.

    halves: fitted on a random half for as many new pairs, judged on the other half. population: fitted on as many
    pairs drawn with replacement, judged on all pairs, of which they are an independent sample.
    """
    rng, n = np.random.default_rng(seed), len(values)
    counts = {"halves": 0, "halves fitted": 0, "population": 0, "population fitted": 0}
    for _ in range(200):
        order = rng.permutation(n)
        ways = {"halves": (order[: n // 2], order[n // 2 :]), "population": (rng.integers(0, n, n // 2), order)}
        for way, (labelled, judged) in ways.items():
            new = len(judged) if way == "halves" else None
            found = fit_threshold(
                values[labelled], correct[labelled], target_error=target_error, confidence=0.95, new_pairs=new
            )
            if found.threshold is not None:
                kept = judged[filter_values(values[judged], threshold=found).kept]
                counts[f"{way} fitted"] += 1
                counts[way] += bool(len(kept) and (~correct[kept]).mean() > target_error)
    return counts


if __name__ == "__main__":
    main()
