"""The picture of a model card: what the model says of its reference conversations."""

from pathlib import Path
from typing import Any


def plot_reference(rows: list[dict[str, Any]], path: Path) -> Path:
    """
    The predicted Gaussian of each attribute for the reference conversations: a panel an attribute, a ridge a row.

    Args:
        rows: of `urm_hf.hub.reference.score_reference`.
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
        axis.set_title(attribute, fontsize=10, parse_math=False)  # "$" in a name is a dollar
        axis.set_yticks(range(len(rows) - 1, -1, -1), [row["name"] for row in rows])
        axis.grid(axis="x", alpha=0.3)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.tick_params(axis="y", length=0)
    figure.supxlabel("rating: predicted mean and spread", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return path
