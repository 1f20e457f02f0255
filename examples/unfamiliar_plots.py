"""The plots of `examples/unfamiliar.py`."""

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.stats import norm

from urm_hf.modeling import URMEnsembleOutput
from urm_hf.uncertainty import MEASURES, compute_uncertainty

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = ["#0b5394", "#e69138", "#38761d", "#cc0000", "#674ea7"]


def plot_measures(scores: dict[str, list], path: Path):
    """Distribution of each measure on each kind of text (Fig. 6a, 6b): medians, quartiles, 5 and 95 %."""
    shown = ["attribute_variance", "covariance_norm", "epistemic", "attribute_gap", "reward_gap", "reward_std"]
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), sharey=True)
    for axis, name in zip(axes.flat, shown, strict=True):
        values = [compute_uncertainty(side, name) for side in scores.values()]
        boxes = axis.boxplot(values, vert=False, whis=(5, 95), showfliers=False, patch_artist=True, widths=0.6)
        for box, colour in zip(boxes["boxes"], COLOURS, strict=False):
            box.set(facecolor=colour, alpha=0.6)
        axis.set_xscale("log")
        axis.xaxis.set_minor_formatter(NullFormatter())
        # labels of long numbers would run into each other: over two decades only the powers of ten are named
        low, high = axis.get_xlim()
        axis.xaxis.set_major_locator(LogLocator(base=10, subs=(1,) if high / low > 50 else (1, 2, 5)))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,g}"))
        axis.set_yticks(range(1, len(scores) + 1), list(scores))
        axis.set_title(f"{name} ({MEASURES[name].unit})", fontsize=10)
        axis.grid(axis="x", alpha=0.3)
    axes[0, 0].invert_yaxis()
    figure.suptitle("higher = less sure", fontsize=9, y=0.995)
    _save(figure, path)


def plot_densities(outputs: dict[str, URMEnsembleOutput], attributes: list[str], path: Path):
    """What each member predicts for one conversation of each kind (Fig. 5 for one model, Fig. 8 for all)."""
    figure, axes = plt.subplots(len(attributes), 1, figsize=(7, 1.9 * len(attributes)), squeeze=False)
    for k, axis in enumerate(axes[:, 0]):
        means = np.concatenate([output.attribute_means[:, 0, k] for output in outputs.values()])
        stds = np.concatenate([output.attribute_stds[:, 0, k] for output in outputs.values()])
        grid = np.linspace((means - 2 * stds).min(), (means + 2 * stds).max(), 400)
        for (kind, output), colour in zip(outputs.items(), COLOURS, strict=False):
            for member in range(len(output.rewards)):
                mean, std = (float(f[member, 0, k]) for f in (output.attribute_means, output.attribute_stds))
                axis.plot(grid, norm.pdf(grid, mean, std), color=colour, lw=1.2, label=kind if member == 0 else None)
        axis.set(title=attributes[k], yticks=[])
    axes[0, 0].legend(fontsize=7, frameon=False)
    axes[-1, 0].set_xlabel("rating")
    _save(figure, path)


def plot_kept(found: dict, path: Path):
    """Pair accuracy against the share kept (Fig. 6c)."""
    figure, axis = plt.subplots(figsize=(7, 4.2))
    for name, curve in found["curves"].items():
        style = {"color": "grey", "ls": ":"} if name == "random" else {}
        axis.plot(found["shares"], curve["accuracy"], label=name, lw=1.4, **style)
    axis.set(xlabel="share of pairs kept", ylabel="pair accuracy", title=f"{found['n']} pairs, either side filtered")
    axis.invert_xaxis()
    axis.legend(fontsize=7, frameon=False, ncol=2)
    axis.grid(alpha=0.3)
    _save(figure, path)


def _save(figure, path: Path):
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
