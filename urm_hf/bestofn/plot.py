"""Gold over KL: the picture of a best-of-n run, as the paper's Table 2 would look drawn."""

from pathlib import Path
from typing import Any

import numpy as np

from urm_hf.bestofn.results import LONGEST, ORACLE, RANDOM

STYLES = {RANDOM: (":", "0.5"), LONGEST: ("--", "0"), ORACLE: ("-.", "0.6")}
DASHES: list[Any] = ["-", (0, (1, 1)), (0, (4, 1.5)), (0, (4, 1, 1, 1)), (0, (7, 2, 2, 2))]  # a model's reward first
BANDS = ("reward", LONGEST)  # lines that show their interval
MOST_RULES = 12  # lines of models; if there are more, each model's reward only


def plot_best_of_n(results: dict[str, Any], path: Path) -> Path:
    """
    A line for each way of choosing, or, where these are many, for each model's reward; bands are 95 % intervals over
    prompts, of every model's reward and of the longest answer. The oracle is cut off where it would press the others
    flat, and its end is given in words.

    Args:
        results (`dict`): the content of results.json.
        path (`Path`): of the image; its folder is made.

    Returns:
        The path.
    """
    import matplotlib

    matplotlib.use("Agg")  # draws without a display, which servers have none of
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(8.6, 4.6))
    kl, models = np.array(results["kl"]), [model["name"] for model in results["models"]]
    rules = dict.fromkeys(models, 0)
    dashes: Any
    many = sum(curve["model"] is not None for curve in results["curves"]) > MOST_RULES
    for curve in results["curves"]:
        if many and curve["model"] is not None and curve["label"] != "reward":
            continue
        if curve["model"] is None:
            dashes, color = STYLES[curve["label"]]
        else:
            dashes, color = DASHES[rules[curve["model"]] % len(DASHES)], f"C{models.index(curve['model']) % 10}"
            rules[curve["model"]] += 1
        width = 1.8 if curve["label"] in BANDS else 1.2
        axis.plot(kl, curve["gold"], ls=dashes, color=color, lw=width, label=curve["name"])
        if curve["low"] and curve["label"] in BANDS:
            axis.fill_between(kl, curve["low"], curve["high"], color=color, alpha=0.13, lw=0)
    _limit_axis(axis, results)
    axis.set_xlabel("KL from the policy at most, log n - (n-1)/n (nats)")
    axis.set_ylabel(f"expected {results['data']['gold']} of the chosen answer")
    axis.grid(alpha=0.3)
    # n=2 lies near n=1 on this axis: on a wide one the labels would cover each other
    shown = [k for k, n in enumerate(results["n"]) if n != 2 or results["n"][-1] <= 32]
    above = axis.secondary_xaxis("top")
    above.set_xticks(kl[shown], [f"n={results['n'][k]}" for k in shown], fontsize=8)
    axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1))
    data = results["data"]
    axis.set_title(f"best of n: {data['prompts']} prompts of {data['name']}", fontsize=10, pad=26)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path


def _limit_axis(axis: Any, results: dict[str, Any]):
    """The axis of gold spans all but the oracle."""
    others = [curve for curve in results["curves"] if curve["label"] != ORACLE]
    bands = [curve["gold"] for curve in others]
    for curve in others:
        if curve["low"] and curve["label"] in BANDS:
            bands += [curve["low"], curve["high"]]
    low, high = np.min(bands), np.max(bands)
    margin = 0.06 * (high - low) or 0.5  # curves that are all one constant
    oracle = next((curve["gold"] for curve in results["curves"] if curve["label"] == ORACLE), None)
    axis.set_ylim(low - margin, high + 2 * margin)
    if oracle is not None and oracle[-1] > high + 2 * margin:
        axis.annotate(
            f"oracle: {oracle[-1]:.3g} at n={results['n'][-1]}",
            (0.99, 0.985),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8,
            color="0.4",
        )
