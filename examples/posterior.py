"""
One model that knows what it does not know: the closed-form posterior of a URM on a frozen backbone, against an
ensemble of three, 20 small networks, a Gaussian process and a density of the hidden states.

    python examples/posterior.py --base HuggingFaceTB/SmolLM2-135M-Instruct --dtype bfloat16 \
        --ratings ratings.jsonl.gz --attributes correctness fluency --others dialogues.jsonl.gz --out posterior

The file of ratings has a column `split` with train, validation and test. Three questions are asked on the test part:
is unfamiliar text of the same length told from it (AUROC, 0.5 is chance), is a rating predicted better where the
posterior's variance is added to sigma^2 (negative log-likelihood, lower is better), and do intervals hold what they
say? All hidden states are computed once and cached. Intervals are 95 % percentiles of bootstrap samples: of rows for
AUROC, of prompts for likelihoods.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from ratings_and_pairs import attribute_trainer, drawn, prompt_clusters, rated, rating_parser
from scipy.special import ndtri
from unfamiliar_measures import fit_measures
from unfamiliar_texts import garbled, long_arithmetic

from urm_hf.data import load_rows
from urm_hf.data.conversations import encode_conversation
from urm_hf.data.ratings import ratings_array, read_ratings
from urm_hf.scoring.features import output_of_cached, pooled_features
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.statistics.bootstrap import bootstrap_intervals
from urm_hf.statistics.rating_metrics import attribute_metrics


def main():
    parser = rating_parser(__doc__)
    parser.add_argument("--loss_type", default="mle")
    parser.add_argument("--others", nargs="*", default=[], help="files of other conversations or pairs")
    parser.add_argument("--max_train_rows", type=int)
    parser.add_argument("--max_test_rows", type=int)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bootstrap_samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    train, validation, test = (
        rated(load_rows(args.ratings, part), args.attributes) for part in ("train", "validation", "test")
    )
    train, test = drawn(train, args.max_train_rows, args.seed), drawn(test, args.max_test_rows, args.seed)
    members, tokenizer = [], None
    for number in range(args.members):
        own = SimpleNamespace(**vars(args) | {"seed": args.seed + number, "lora_epochs": None})
        trainer = attribute_trainer(own, train, validation)
        trainer.train()
        members.append(trainer.model.eval())
        tokenizer = trainer.processing_class
    known = [[*row["prompt"], {"role": "assistant", "content": row["response"]}] for row in test]
    rng = np.random.default_rng(args.seed)
    kinds = {
        "arithmetic": long_arithmetic(rng, known, tokenizer),
        "garbled": garbled(rng, known, tokenizer),
        **{Path(path).name.split(".")[0]: as_long(path, known, tokenizer) for path in args.others},
    }
    ratings = ratings_array([read_ratings(row, args.attributes) for row in train])
    measures = fit_measures(members, hidden_of(members[0], tokenizer, train), ratings, args.seed)
    states = {kind: hidden_of(members[0], tokenizer, texts) for kind, texts in kinds.items()}
    results = {
        "n": {"train": len(train), "test": len(test)},
        "unfamiliar": tell_unfamiliar(args, measures, hidden_of(members[0], tokenizer, known), states),
        "likelihood": tell_likelihood(args, members, test, known, tokenizer),
        "coverage": tell_coverage(args, members[0], test, known, tokenizer),
    }
    (args.out / "results.json").write_text(json.dumps(results, indent=1))


def as_long(path: str, known: list, tokenizer) -> list:
    """Conversations of another file, each as long as a known one to a fifth; of pairs the chosen answer."""
    free: list[tuple[int, list]] = []
    rows = load_rows(path, None)
    for row in rows.select(range(min(1500, len(rows)))):
        answer = row.get("response") or row["chosen"]
        if not isinstance(row["prompt"], list) or not isinstance(answer, str):
            continue
        messages = [*row["prompt"], {"role": "assistant", "content": answer}]
        free.append((len(encode_conversation(tokenizer, messages)), messages))
    made = []
    for messages in known:
        length = len(encode_conversation(tokenizer, messages))
        nearest = min(range(len(free)), key=lambda i: abs(free[i][0] - length))
        if abs(free[nearest][0] - length) <= length / 5:
            made.append(free.pop(nearest)[1])
    return made


def hidden_of(model, tokenizer, conversations) -> np.ndarray:
    ids = [encode_conversation(tokenizer, messages) for messages in conversations]
    return pooled_features(model, ids, tokenizer.pad_token_id)[:]


def tell_unfamiliar(args, measures, familiar: np.ndarray, states: dict[str, np.ndarray]) -> dict:
    """AUROC of each measure on the hidden states of each kind of text."""
    found: dict = {}
    print(f"\nUnfamiliar text of equal length against {len(familiar)} test conversations: AUROC\n")
    print(f"| measure | {' | '.join(f'{kind} (n={len(hidden)})' for kind, hidden in states.items())} |")
    print(f"|---|{'---|' * len(states)}")
    for name, measure in measures.items():
        cells, ours = [], measure(familiar)
        for kind, hidden in states.items():
            theirs = measure(hidden)
            rng = np.random.default_rng(args.seed)
            samples = [
                compute_auroc(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs)))
                for _ in range(args.bootstrap_samples)
            ]
            value, (low, high) = float(compute_auroc(ours, theirs)), np.percentile(samples, [2.5, 97.5])
            found.setdefault(kind, {})[name] = [value, float(low), float(high)]
            cells.append(f"{value:.3f} [{low:.3f}, {high:.3f}]")
        print(f"| {name} | {' | '.join(cells)} |")
    return found


def tell_likelihood(args, members, test, known, tokenizer) -> dict:
    """Mean negative log-likelihood of held-out ratings, in units of their spread; how often intervals hold them."""
    config = members[0].config
    truth = ratings_array([read_ratings(row, args.attributes) for row in test])  # (N, n, R)
    ids = [encode_conversation(tokenizer, messages) for messages in known]
    outputs = [output_of_cached(member, ids, tokenizer.pad_token_id) for member in members]
    means = [output.attribute_means.numpy() for output in outputs]
    variances = [output.attribute_stds.numpy() ** 2 for output in outputs]
    unknown = outputs[0].attribute_epistemic_stds.numpy() ** 2
    hidden = torch.from_numpy(hidden_of(members[0], tokenizer, known))
    with torch.no_grad():
        expected, variance = (part.numpy() for part in members[0].score.posterior(hidden))
        noise = members[0].score.posterior_noise.numpy()
    spread = np.array(config.label_stds)
    models = {
        "constant": (np.broadcast_to(config.label_means, means[0].shape), np.broadcast_to(spread**2, means[0].shape)),
        "one model, sigma^2": (means[0], variances[0]),
        "one model, sigma^2 + posterior": (means[0], variances[0] + unknown),
        "the posterior's mean, sigma^2 + posterior": (expected, variances[0] + variance),
        "the posterior's mean, noise + posterior": (expected, noise + variance),
        f"{len(members)} members": (np.mean(means, 0), np.mean(variances, 0) + np.var(means, 0)),
    }
    clusters = prompt_clusters(test)

    def metrics(rows: np.ndarray, mean, variance) -> dict[str, float]:
        statistics = args.attributes, config.label_means, config.label_stds
        return attribute_metrics(mean[rows], np.sqrt(variance[rows]), truth[rows], *statistics)

    def differences(rows: np.ndarray) -> dict[str, float]:
        values = {name: metrics(rows, *model)["nll"] for name, model in models.items()}
        return {name: value - values["one model, sigma^2"] for name, value in values.items()}

    whole = np.arange(len(test))
    apart, intervals = (
        differences(whole),
        bootstrap_intervals(differences, clusters, args.bootstrap_samples, args.seed),
    )
    print(f"\nHeld-out ratings of {len(test)} conversations, {len(clusters)} prompts, seed {args.seed}\n")
    print("| | NLL | against one model's sigma^2 | 68 % interval holds | 95 % |")
    print("|---|---|---|---|---|")
    found: dict = {}
    for name, model in models.items():
        values, (low, high) = metrics(whole, *model), intervals[name]
        held = [values["coverage68"], values["coverage95"]]
        found[name] = {"nll": values["nll"], "difference": [apart[name], low, high], "held": held}
        print(
            f"| {name} | {values['nll']:.3f} | {apart[name]:+.3f} [{low:+.3f}, {high:+.3f}] | "
            f"{held[0]:.2f} | {held[1]:.2f} |"
        )
    return found


def tell_coverage(args, model, test, known, tokenizer) -> dict:
    """The share of held-out ratings that intervals hold, in the attribute where it is furthest from what they say."""
    truth = ratings_array([read_ratings(row, args.attributes) for row in test])
    output = output_of_cached(model, [encode_conversation(tokenizer, messages) for messages in known], 0)
    ends = dict(zip(model.config.interval_factors, output.attribute_intervals.numpy().swapaxes(0, 1), strict=True))
    means, stds = output.attribute_means.numpy(), output.attribute_stds.numpy()
    gaussian = {level: ndtri((1 + float(level)) / 2) for level in ends}
    kinds = {
        "sigma, as a Gaussian": {
            level: np.stack([means - z * stds, means + z * stds], -1) for level, z in gaussian.items()
        },
        "calibrated": ends,
    }
    found: dict = {}
    print(f"\nShare of ratings inside intervals, worst attribute of {len(args.attributes)}\n")
    print(f"| | {' | '.join(f'{float(level):.0%}' for level in ends)} |\n|---|{'---|' * len(ends)}")
    for kind, intervals in kinds.items():
        cells = []
        for level, (low, high) in ((level, np.moveaxis(both, -1, 0)) for level, both in intervals.items()):
            inside = (low[..., None] <= truth) & (truth <= high[..., None])
            shares = inside.sum((0, 2)) / (~np.isnan(truth)).sum((0, 2))
            worst = shares[np.argmax(np.abs(shares - float(level)))]
            found.setdefault(kind, {})[level] = shares.tolist()
            cells.append(f"{worst:.1%}")
        print(f"| {kind} | {' | '.join(cells)} |")
    return found


if __name__ == "__main__":
    main()
