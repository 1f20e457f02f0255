"""The picture of an out-of-distribution report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_curve

from urm_hf.uncertainty.detectors import Detector


def plot_detectors(
    detectors: Sequence[Detector],
    values: Mapping[str, tuple[np.ndarray, np.ndarray]],
    best_trivial: Detector,
    path: Path,
) -> Path:
    """
    Histograms of each detector, its name slanted if trivial, and ROC curves of the measures and `best_trivial`.

    Args:
        detectors (`list[Detector]`): one panel each.
        values (`dict[str, tuple[np.ndarray, np.ndarray]]`): its values on known and unknown conversations.
        best_trivial (`Detector`): the only trivial one with a ROC curve.
        path (`Path`): of the image; its folder is made.

    Returns:
        The path.
    """
    import matplotlib

    matplotlib.use("Agg")  # draws without a display, which servers have none of
    from matplotlib import pyplot as plt

    columns = 4
    height = math.ceil((len(detectors) + 1) / columns)
    figure, axes = plt.subplots(height, columns, figsize=(3.6 * columns, 2.8 * height), squeeze=False)
    *panels, last = axes.flat[: len(detectors) + 1]
    for axis, row in zip(panels, detectors, strict=True):
        known, unknown = values[row.name]
        shown = -1 if row.name.endswith("(lower)") else 1  # as they were before they were turned
        bins = np.histogram_bin_edges(shown * np.concatenate([known, unknown]), 30)
        for side, label in ((known, "in"), (unknown, "out")):
            axis.hist(shown * side, bins, weights=np.full(len(side), 1 / len(side)), alpha=0.6, label=label)
        axis.set_title(f"{row.name}\nAUROC {row.auroc:.3f}", fontsize=9, style="italic" if row.trivial else "normal")
        axis.tick_params(labelsize=7)
        axis.locator_params(axis="x", nbins=5)
        axis.legend(fontsize=7, frameon=False)
        if not row.trivial or row is best_trivial:
            # of the trivial ones the best alone: eight curves more would hide those that matter
            truth = np.repeat([0, 1], [len(known), len(unknown)])
            rate_in, rate_out, _ = roc_curve(truth, np.concatenate([known, unknown]))
            last.plot(rate_in, rate_out, "k--" if row.trivial else "-", lw=1.2, label=row.name)
    last.plot([0, 1], [0, 1], ":", color="grey", lw=0.8)
    last.set(xlabel="share of in that is flagged", ylabel="share of out that is flagged", title="ROC")
    last.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.03, 1)).set_in_layout(False)
    for axis in axes.flat[len(detectors) + 1 :]:
        axis.remove()
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    plt.close(figure)
    return path
