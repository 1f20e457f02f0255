"""
Fig. 6c: does dropping the pairs with an uncertain answer leave a higher accuracy on held-out pairs?

    python examples/paper/figure6c.py --scale laptop --data DATA --out paper

Reads OUT/table1/results.json. A pair is dropped when either answer is above the threshold. Writes OUT/figure6c.png.
"""

import json

from common import figure, parse, save, timed, write_text

SHOWN = {"URM_MLE": ("attribute_variance", "epistemic"), "URME": ("reward_gap", "covariance_norm")}


def main():
    run = parse(__doc__)
    with timed(run, "figure 6c"):
        results = json.loads((run.out / "table1" / "results.json").read_text())
        found = {}
        for metric in results["metrics"]:
            if metric["metric"] == "accuracy_gain" and metric["variant"] in SHOWN.get(metric["model"], ()):
                key = f"{metric['data']}, {metric['model']}, {metric['variant']}, {metric['group']}"
                found[key] = {name: metric[name] for name in ("value", "interval", "n")}
        write_text(run.out / "figure6c" / "results.json", json.dumps(found, indent=1))
        drawn, axes = figure(2, width=4.6, sharey=True)
        for axis, data in zip(axes, ("held_out", "benchmark"), strict=True):
            curves = [c for c in results["curves"] if c["data"] == data and c["curve"] == "risk_coverage"]
            for curve in curves:
                if curve["variant"] in SHOWN.get(curve["model"], ()):
                    label = f"{curve['model']}, {curve['variant']}"
                    axis.plot(curve["x"], [1 - risk for risk in curve["y"]], label=label, lw=1.3)
            axis.set_title(data.replace("_", " "), fontsize=10)
            axis.set_xlabel("share of pairs kept, the surest")
            axis.set_xlim(1, 0.2)
            axis.set_ylim(0.2, 0.9)
            axis.legend(fontsize=7, frameon=False)
        axes[0].set_ylabel("accuracy of those kept")
        print(save(drawn, run.out / "figure6c.png"))


if __name__ == "__main__":
    main()
