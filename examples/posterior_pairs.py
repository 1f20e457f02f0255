"""
Does a posterior tell which preferences to trust? The joint posterior of a pair and the Laplace posterior of the gate,
against the bare margin and the model's own P(chosen is better).

    python examples/posterior_pairs.py --base HuggingFaceTB/SmolLM2-135M-Instruct --dtype bfloat16 \
        --ratings ratings.jsonl.gz --attributes correctness fluency --pairs pairs.jsonl.gz --others more.jsonl.gz \
        --out posterior_pairs

Heads train on the ratings and the gate on the train part of the pairs, on a frozen backbone. Pairs of the test part,
and of the other files, are then kept from the surest on. Printed are the accuracy of the half that is kept, what it
gains on keeping by the bare margin, and the AUROC of each measure for errors (0.5 is chance), with 95 % intervals over
prompts. The gate's posterior is Laplace's over its last layer (Kristiadi et al., 2020, arXiv:2002.10118): Gauss-Newton
of the Bradley-Terry loss on the pairs that it was trained on, its prior precision by the evidence (MacKay, 1992).
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ratings_and_pairs import attribute_trainer, drawn, prompt_clusters, rated, rating_parser

from urm_hf import RewardScorer, URMForRewardModeling, compute_joint_probability, margin_epistemic_std
from urm_hf.data import load_rows
from urm_hf.data.conversations import encode_conversation
from urm_hf.scoring.features import pooled_features
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.statistics.bootstrap import bootstrap_intervals
from urm_hf.trainers import URMGatingConfig, URMGatingTrainer
from urm_hf.uncertainty.measures import compute_preference_probability, compute_uncertainty

SIDES = ("chosen", "rejected")


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--loss_type", default="mle")
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--others", nargs="*", default=[], help="further files of pairs, all rows of which are used")
    parser.add_argument("--max_train_pairs", type=int)
    parser.add_argument("--max_test_pairs", type=int, help="of each file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bootstrap_samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, validation = (rated(load_rows(args.ratings, part), args.attributes) for part in ("train", "validation"))
    trainer = attribute_trainer(SimpleNamespace(**vars(args), lora_epochs=None), train, validation)
    trainer.train()
    model, tokenizer = trainer.model, trainer.processing_class
    gate_rows = drawn(load_rows(args.pairs, "train"), args.max_train_pairs, args.seed)
    config = URMGatingConfig(str(args.out), seed=args.seed, save_strategy="no", report_to="none")
    gate_eval = drawn(load_rows(args.pairs, "validation"), args.max_test_pairs, args.seed)
    URMGatingTrainer(
        model, config, train_dataset=gate_rows, eval_dataset=gate_eval, processing_class=tokenizer
    ).train()
    model.eval()
    laplace = fit_gate(model, *(gate_features(model, hidden_of(model, tokenizer, gate_rows, side)) for side in SIDES))
    sets = {Path(args.pairs).name: drawn(load_rows(args.pairs, "test"), args.max_test_pairs, args.seed)}
    sets |= {Path(path).name: drawn(load_rows(path, None), args.max_test_pairs, args.seed) for path in args.others}
    results = {name.split(".")[0]: judge(args, model, tokenizer, rows, laplace) for name, rows in sets.items()}
    (args.out / "results.json").write_text(json.dumps(results, indent=1))


def hidden_of(model: URMForRewardModeling, tokenizer, rows, side: str) -> np.ndarray:
    ids = [encode_conversation(tokenizer, row, side) for row in rows]
    return pooled_features(model, ids, tokenizer.pad_token_id)[:]


@torch.no_grad()
def gate_features(model: URMForRewardModeling, hidden: np.ndarray) -> np.ndarray:
    """(N, n (G + 1)): what the reward is linear in, as a function of the gate's last layer with its bias."""
    head = model.score
    states = (torch.from_numpy(hidden) - head.feature_mean) / head.feature_scale
    inner = torch.nn.functional.pad(head.gate[:4](states), (0, 1), value=1.0)  # (N, G + 1)
    means = head.distribution(torch.from_numpy(hidden))[0] / head.label_std  # (N, n)
    return (means[:, :, None] * inner[:, None]).flatten(1).numpy()


def fit_gate(model: URMForRewardModeling, chosen: np.ndarray, rejected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (d, r) and variances (r,) of the gate's last layer along them; nothing outside of the pairs' span."""
    apart = (chosen - rejected).astype(np.float64)  # (P, d), P < d: by the smaller product
    last = model.score.gate[4]
    weights = np.concatenate([last.weight.detach().numpy(), last.bias.detach().numpy()[:, None]], axis=1).ravel()
    p = 1 / (1 + np.exp(-apart @ weights))
    scaled = apart * np.sqrt(p * (1 - p))[:, None]
    eigenvalues, left = np.linalg.eigh(scaled @ scaled.T)
    kept = eigenvalues > 1e-8 * eigenvalues.max()
    eigenvalues, directions = eigenvalues[kept], scaled.T @ left[:, kept] / np.sqrt(eigenvalues[kept])
    along, alpha = directions.T @ weights, 1.0
    for _ in range(100):
        alpha = (eigenvalues / (alpha + eigenvalues)).sum() / max(float(along @ along), 1e-12)
    print(f"gate: {len(apart)} pairs, prior precision {alpha:.3g}, {(eigenvalues > alpha).sum()} directions known")
    return directions, 1 / (alpha + eigenvalues)


def judge(args, model, tokenizer, rows, laplace) -> dict:
    """Every measure on one set of pairs."""
    scorer = RewardScorer(model, tokenizer)
    sides = []
    for side in SIDES:
        ids = [{"input_ids": encode_conversation(tokenizer, row, side)} for row in rows]
        sides.append(scorer.score(ids, return_posterior_features=True))
    chosen, rejected = sides
    margin = np.array([a.reward - b.reward for a, b in zip(chosen, rejected, strict=True)])
    apart = np.subtract(*(gate_features(model, hidden_of(model, tokenizer, rows, side)) for side in SIDES))
    gate_std = np.sqrt((apart @ laplace[0]) ** 2 @ laplace[1])
    joint = margin_epistemic_std(chosen, rejected, model.score)
    noise = np.hypot(*(compute_uncertainty(side, "reward_std") for side in sides))
    measures = {
        "bare margin near 0": -np.abs(margin),
        "probability near 1/2, sigma": -np.abs(compute_preference_probability(*sides) - 0.5),
        "the same, with the joint posterior": -np.abs(compute_joint_probability(*sides, model.score) - 0.5),
        "the same, with the gate's too": -np.abs(margin) / np.sqrt(noise**2 + joint**2 + gate_std**2),
        "margin / joint std": -np.abs(margin) / np.maximum(joint, 1e-12),
        "margin / gate's std": -np.abs(margin) / np.maximum(gate_std, 1e-12),
        "joint std": joint,
        "gate's std": gate_std,
        "epistemic of either side": np.maximum(*(compute_uncertainty(side, "epistemic") for side in sides)),
    }
    return report(args, measures, margin > 0, prompt_clusters(rows))


def report(args, measures: dict[str, np.ndarray], right: np.ndarray, clusters: list[np.ndarray]) -> dict:
    """Accuracy of the surer half, its gain on the first measure's half, AUROC for errors."""

    def kept(values: np.ndarray, rows: np.ndarray) -> float:
        order = np.argsort(values[rows], kind="stable")[: (len(rows) + 1) // 2]
        return float(right[rows][order].mean())

    def measure(rows: np.ndarray) -> dict[str, float]:
        base = kept(next(iter(measures.values())), rows)
        found = {"all": float(right[rows].mean())}
        for name, values in measures.items():
            found[f"{name}|kept"] = kept(values, rows)
            found[f"{name}|gain"] = found[f"{name}|kept"] - base
            found[f"{name}|auroc"] = float(compute_auroc(values[rows][right[rows]], values[rows][~right[rows]]))
        return found

    whole = measure(np.arange(len(right)))
    intervals = bootstrap_intervals(measure, clusters, args.bootstrap_samples, args.seed)
    told = {name: "{:.3f} [{:.3f}, {:.3f}]".format(value, *intervals[name]) for name, value in whole.items()}
    print(f"\n{len(right)} pairs, {len(clusters)} prompts, accuracy of all {told['all']}\n")
    print("| keep half by | accuracy | against the bare margin | AUROC for errors |\n|---|---|---|---|")
    for name in measures:
        print(f"| {name} | {' | '.join(told[f'{name}|{what}'] for what in ('kept', 'gain', 'auroc'))} |")
    return {name: [value, *intervals[name]] for name, value in whole.items()}


if __name__ == "__main__":
    main()
