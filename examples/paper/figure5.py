"""
Fig. 5, 6a, 6b and 8: uncertainty on conversations like those of training, and on arithmetic.

    python examples/paper/figure5.py --scale laptop --data DATA --out paper

The paper's arithmetic is a dozen tokens long, and what it is told from are whole conversations: a measure of nothing
but length would tell them apart. So both are measured: short products, as the paper's, and lists of products as long
as the known conversations. AUROC: 0.5 is chance. Writes OUT/figure5.png, OUT/figure6.png, OUT/figure5/results.json.
"""

import json
import sys

import numpy as np
from common import HERE, Run, figure, messages_of, parse, read_scores, save, score, timed, write_text

sys.path.insert(0, str(HERE.parent))
from unfamiliar_texts import arithmetic, long_arithmetic

from urm_hf.scoring import RewardScorer
from urm_hf.statistics.auroc import compute_auroc
from urm_hf.uncertainty import compute_uncertainty

MEASURES = {
    "URM": {"sum of variances": "attribute_variance", "posterior": "epistemic"},
    "URME": {"reward gap (Eq. 7)": "reward_gap", "covariance norm (Eq. 8)": "covariance_norm"},
}
KINDS = ("known", "products, short", "products, as long")


def main():
    run = parse(__doc__)
    with timed(run, "figures 5, 6a, 6b and 8"):
        conversations = build_conversations(run)
        scores = {}
        for model, folders in (("URM", [run.model("mle-0-gated")]), ("URME", run.urme())):
            for kind in KINDS:
                scores[model, kind] = read_scores(score(run, model, folders, conversations[kind], kind))
        results = measure(scores)
        write_text(run.out / "figure5" / "results.json", json.dumps(results, indent=1))
        print(draw_attributes(run, scores), draw_measures(run, scores))


def build_conversations(run: Run) -> dict[str, list]:
    rows = run.rows(run.settings["ratings"], run.settings["max_test_rows"])
    known = [messages_of(row, "response") for row in rows]
    tokenizer = RewardScorer(run.model("mle-0-gated"), dtype=run.settings["dtype"]).tokenizer
    rng = np.random.default_rng(0)
    made = [known, arithmetic(rng, len(known)), long_arithmetic(rng, known, tokenizer)]
    return dict(zip(KINDS, made, strict=True))


def measure(scores: dict) -> dict:
    """AUROC of each measure against both kinds of arithmetic, with 95 % intervals over conversations."""
    rng, results = np.random.default_rng(0), {}
    print("| model | measure | median, known | median, products | AUROC, short | AUROC, as long |\n|" + "---|" * 6)
    for model, measures in MEASURES.items():
        for label, name in measures.items():
            values = {kind: compute_uncertainty(scores[model, kind], name) for kind in KINDS}
            found = {
                "n": len(values["known"]),
                **{f"median, {kind}": float(np.median(values[kind])) for kind in KINDS},
            }
            for kind in KINDS[1:]:
                known, other = values["known"], values[kind]
                drawn = []
                for _ in range(500):
                    drawn.append(compute_auroc(rng.choice(known, len(known)), rng.choice(other, len(other))))
                interval = np.quantile(drawn, [0.025, 0.975]).tolist()
                found[f"auroc, {kind}"] = {"value": float(compute_auroc(known, other)), "interval": interval}
            results[f"{model}: {label}"] = found
            told = [
                "{value:.2f} [{interval[0]:.2f}, {interval[1]:.2f}]".format(**found[f"auroc, {k}"]) for k in KINDS[1:]
            ]
            medians = f"{found['median, known']:.3g} | {found['median, products, as long']:.3g}"
            print(f"| {model} | {label} | {medians} | {' | '.join(told)} |")
    return results


def draw_attributes(run: Run, scores: dict):
    """Fig. 5 and 8: the Gaussians of one attribute, of five conversations a kind; members in thin lines."""
    attribute = next(iter(scores["URM", "known"][0].attribute_means))
    drawn, axes = figure(3, sharey=True)
    for axis, kind in zip(axes, KINDS, strict=True):
        known = scores["URM", "known"]
        centers = [score.attribute_means[attribute] for score in known]
        spread = 4 * max(score.attribute_stds[attribute] for score in known)
        grid = np.linspace(min(centers) - spread, max(centers) + spread, 300)
        for number in range(5):
            score = scores["URM", kind][number]
            mean, std = score.attribute_means[attribute], score.attribute_stds[attribute]
            axis.plot(grid, np.exp(-0.5 * ((grid - mean) / std) ** 2) / std / np.sqrt(2 * np.pi), color=f"C{number}")
        axis.set_title(kind, fontsize=10)
        axis.set_xlabel(attribute)
    axes[0].set_ylabel("predicted density, five conversations each")
    return save(drawn, run.out / "figure5.png")


def draw_measures(run: Run, scores: dict):
    """Fig. 6a and 6b: how each measure is distributed, known and unknown."""
    shown = [(model, label, name) for model, measures in MEASURES.items() for label, name in measures.items()]
    drawn, axes = figure(len(shown), width=3.6)
    for axis, (model, label, name) in zip(axes, shown, strict=True):
        values = [compute_uncertainty(scores[model, kind], name) for kind in KINDS]
        top = np.quantile(np.concatenate(values), 0.99)
        for number, (kind, of_kind) in enumerate(zip(KINDS, values, strict=True)):
            axis.hist(np.minimum(of_kind, top), bins=30, range=(0, top), alpha=0.5, color=f"C{number}", label=kind)
        axis.set_title(f"{model}: {label}", fontsize=9)
        axis.legend(fontsize=7, frameon=False)
    return save(drawn, run.out / "figure6.png")


if __name__ == "__main__":
    main()
