"""
Fig. 7: does the mean of two seeds' weights beat them?

    python examples/paper/figure7.py --scale laptop --data DATA --out paper

Accuracy on the pairs of Table 1, of two seeds of each loss and of their merge, each with a gate of its own. The
difference is that of the merge less the mean of both seeds, with a 95 % bootstrap interval over pairs.
"""

import json

import numpy as np
from common import LOSSES, figure, parse, read_scores, save, score, timed, write_text
from table1 import read_conversations, write_pairs


def main():
    run = parse(__doc__)
    with timed(run, "figure 7"):
        paths, rng = write_pairs(run), np.random.default_rng(0)
        conversations = [c for path in paths for c in read_conversations(path)]
        results = {"n": len(conversations) // 2}
        print("| loss | seed 0 | seed 1 | merged | merged less their mean |\n|---|---|---|---|---|")
        for loss in LOSSES:
            right = {}
            for name, seed in (("0", run.merged(loss)[0]), ("1", run.merged(loss)[1]), ("merged", "merged")):
                folder = run.model(f"{loss}-{seed}-gated")
                scores = read_scores(score(run, f"{loss}-{seed}", [folder], conversations, "pairs"))
                rewards = np.array([one.reward for one in scores]).reshape(-1, 2)
                right[name] = rewards[:, 0] > rewards[:, 1]
            gain = right["merged"] - (right["0"].astype(float) + right["1"]) / 2
            draws = [gain[rng.integers(0, len(gain), len(gain))].mean() for _ in range(2000)]
            interval = np.quantile(draws, [0.025, 0.975]).tolist()
            results[loss] = {name: float(values.mean()) for name, values in right.items()}
            results[loss] |= {"gain": float(gain.mean()), "interval": interval}
            cells = " | ".join(f"{results[loss][name]:.3f}" for name in right)
            print(f"| {loss} | {cells} | {gain.mean():+.3f} [{interval[0]:+.3f}, {interval[1]:+.3f}] |")
        write_text(run.out / "figure7" / "results.json", json.dumps(results, indent=1))
        drawn, axes = figure(1, width=5.5)
        for place, loss in enumerate(LOSSES):
            for number, name in enumerate(("0", "1", "merged")):
                label = {"merged": "merged"}.get(name, f"seed {name}") if place == 0 else None
                axes[0].bar(place + 0.25 * (number - 1), results[loss][name], 0.23, color=f"C{number}", label=label)
        axes[0].set_xticks(range(len(LOSSES)), LOSSES)
        axes[0].set_ylim(0.4, 0.7)
        axes[0].set_ylabel(f"accuracy, n={results['n']}")
        axes[0].legend(fontsize=8, frameon=False)
        print(save(drawn, run.out / "figure7.png"))


if __name__ == "__main__":
    main()
