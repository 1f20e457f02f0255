"""Plots of a training run, and of the scores that a card shows."""

from pathlib import Path
from typing import Any

# each panel: what of the log to draw; keys with "/" are per attribute
PANELS = {
    "loss": ("loss", "eval_loss"),
    "held-out likelihood and error": ("eval_nll", "eval_censored_nll", "eval_mse"),
    "held-out correlation with ratings": ("eval_pearson", "eval_spearman", "eval_spread_pearson"),
    "sigma, in units of the ratings' std": ("mean_std",),
    "held-out coverage": ("eval_coverage68", "eval_coverage95"),
    "pair accuracy": ("accuracy", "eval_accuracy"),
}


def plot_training(history: list[dict[str, Any]], path: Path) -> Path:
    """
    Curves over steps of what a trainer logged (`trainer.state.log_history`), a panel for each kind of quantity.

    Raises:
        ValueError: nothing was logged that a panel shows.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    panels = {title: keys for title, keys in PANELS.items() if any(key in entry for entry in history for key in keys)}
    if not panels:
        raise ValueError("the training log holds nothing to plot: set `logging_steps` below the number of steps.")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False)
    for axis, (title, keys) in zip(axes.flat, panels.items(), strict=False):
        for key in keys:
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                axis.plot(*zip(*points, strict=True), marker="o" if len(points) < 30 else None, ms=3, label=key)
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
    for axis in list(axes.flat)[len(panels) :]:
        axis.remove()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path


def plot_reference(rows: list[dict[str, Any]], path: Path) -> Path:
    """
    The predicted Gaussian of each attribute for the reference conversations: a panel an attribute, a ridge a row.

    Args:
        rows: of `urm_hf.reference.score_reference`.
    """
    import matplotlib

    matplotlib.use("Agg")
    import numpy as np
    from matplotlib import pyplot as plt

    attributes = list(rows[0]["attribute_means"])
    figure, axes = plt.subplots(
        1, len(attributes), figsize=(1.6 + 2.1 * len(attributes), 1.2 + 0.42 * len(rows)), sharey=True, squeeze=False
    )
    for axis, attribute in zip(axes[0], attributes, strict=True):
        means = np.array([row["attribute_means"][attribute] for row in rows])
        stds = np.array([row["attribute_stds"][attribute] for row in rows])
        x = np.linspace((means - 3 * stds).min(), (means + 3 * stds).max(), 400)
        for number, (mean, std) in enumerate(zip(means, stds, strict=True)):
            # the narrowest density is 0.9 rows high; all have the same area
            density = 0.9 * np.exp(-0.5 * ((x - mean) / std) ** 2) * stds.min() / std
            floor = len(rows) - 1 - number
            axis.fill_between(x, floor, floor + density, alpha=0.55, lw=0, color=f"C{number}", zorder=2 * number)
            axis.plot(x, floor + density, lw=0.8, color=f"C{number}", zorder=2 * number + 1)
        axis.set_title(attribute, fontsize=10)
        axis.set_yticks(range(len(rows) - 1, -1, -1), [row["name"] for row in rows])
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.supxlabel("rating: predicted mean and spread", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
