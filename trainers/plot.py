"""The picture of a training run."""

import math
from pathlib import Path
from typing import Any

import numpy as np

# each panel: what of the log to draw; keys with "/" are per attribute
PANELS = {
    "loss": ("loss", "eval_loss"),
    "likelihood and error, per attribute": ("nll", "eval_nll", "eval_censored_nll", "eval_mse"),
    "held-out correlation with ratings": ("eval_pearson", "eval_spearman", "eval_spread_pearson"),
    "sigma, in units of the ratings' std": ("mean_relative_std",),
    "held-out coverage": ("eval_coverage68", "eval_coverage95"),
    "pair accuracy": ("accuracy", "eval_accuracy"),
}
# what a perfect model would reach, or what says nothing: value and words by what is drawn
TARGETS = {
    "eval_coverage68": (0.68, "68 % of a Gaussian"),
    "eval_coverage95": (0.95, "95 % of a Gaussian"),
    "mean_relative_std": (1.0, "spread of all ratings"),
    "accuracy": (0.5, "chance"),
    "eval_accuracy": (0.5, "chance"),
}
MANY = 30  # points of a curve, from which on single batches are noise around a mean


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
        drawn = [_plot_curve(axis, key, history) for key in keys if any(key in entry for entry in history)]
        for value, words in dict.fromkeys(TARGETS[key] for key in drawn if key in TARGETS):
            axis.axhline(value, color="grey", ls=":", lw=1.2, label=words)
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


def _plot_curve(axis: Any, key: str, history: list[dict[str, Any]]) -> str:
    """
    One quantity over steps. Of many points each is of few rows, and jumps with them: they are drawn faintly behind
    their running mean, so that a spike of one batch is seen as such.
    """
    points = [(entry["step"], entry[key]) for entry in history if key in entry]
    # the best heads were put back and evaluated again: joined by a line, that would look like a jump of the training
    kept = [points.pop()] if len(points) > 1 and points[-1][0] == points[-2][0] else []
    steps, values = (np.array(side, dtype=float) for side in zip(*points, strict=True))
    if len(points) < MANY:
        (line,) = axis.plot(steps, values, marker="o", ms=3, label=key)  # one evaluation alone would draw no line
    else:
        width = 2 * (len(points) // 20) + 1
        means = compute_running_mean(values, width)
        (line,) = axis.plot(steps, means, label=f"{key}, mean of {width} entries of the log")
        axis.plot(steps, values, color=line.get_color(), alpha=0.25, lw=0.8, label="each entry", zorder=1)
    for step, value in kept:
        told = "_" if "*" in [other.get_marker() for other in axis.lines] else "of what is kept"  # in the legend once
        axis.plot([step], [value], "*", ms=10, color=line.get_color(), mec="black", mew=0.6, label=told)
    return key


def compute_running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """
    The mean of the `width` (odd) values around each; at the ends, of those that there are.

    Args:
        values (`np.ndarray` of shape `(N,)`): in order; not finite ones count as they are.
        width (`int`): how many.
    """
    kernel = np.ones(width)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")
