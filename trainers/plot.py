"""The picture of a training run."""

import math
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
    Curves over steps of what a trainer logged, a panel for each kind of quantity.

    Args:
        history (`list[dict]`): `trainer.state.log_history`.
        path (`Path`): of the picture; its folder is made.

    Returns:
        The path.

    Raises:
        ValueError: nothing was logged that a panel shows.
    """
    import matplotlib

    matplotlib.use("Agg")  # draws without a display, which servers have none of
    from matplotlib import pyplot as plt

    logged = {key for entry in history for key in entry}
    panels = {title: keys for title, keys in PANELS.items() if logged.intersection(keys)}
    if not panels:
        raise ValueError("the training log holds nothing to plot: set `logging_steps` below the number of steps.")
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4.6 * columns, 3.2 * rows), squeeze=False)
    for axis, (title, keys) in zip(axes.flat, panels.items(), strict=False):
        for key in keys:
            points = [(entry["step"], entry[key]) for entry in history if key in entry]
            if points:
                steps, values = zip(*points, strict=True)
                marker = "o" if len(points) < 30 else None  # one evaluation alone would draw no line
                axis.plot(steps, values, marker=marker, ms=3, label=key)
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
